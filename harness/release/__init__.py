"""`make release`: packages built twice, what is in them, where they come from, and signatures.

`building.py` makes the packages, `lock.py` reads the pinned dependencies, `sbom.py` and
`provenance.py` write what is said of them, `__main__.py` puts a release together and has it signed.
Publishes nothing. docs/security.md says how a release is verified.
"""
