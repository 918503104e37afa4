#!/bin/bash
# opencryptoki's software token for `runtime/signer/opencryptoki_test.py`, without touching this host.
#   opencryptoki.sh unpack ROOT     Debian forky's packages, which need a newer C library, below ROOT
#   opencryptoki.sh run ROOT COMMAND...   the command as root in ROOT, beside its daemon
# `run` goes into new namespaces, so that daemon, mounts and shared memory end with it.
set -euo pipefail
what=$1 root=$(realpath -m "$2")
shift 2
packages="libc6 libgcc-s1 libstdc++6 libssl3t64 openssl-provider-legacy libldap2 libsasl2-2 libtspi1
  libopencryptoki0 opencryptoki libcap2 libzstd1 zlib1g libffi8 libbz2-1.0 liblzma5 libcrypt1
  libdb5.3t64 libudev1 libsystemd0 libuuid1 libexpat1 libtinfo6"

unpack() {
  work=$(mktemp -d)
  mkdir -p "$work"/{lists/partial,archives/partial,debs} "$root"
  key=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(cd "$(dirname "$0")/../.." &&
    .venv/bin/python -c 'from tests.tools.fetch import mirror; print(mirror())')
  echo "deb [signed-by=$key] $mirror forky main" > "$work/sources.list"
  : > "$work/status"
  options=(-o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
    -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::Cache=$work" -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
  apt-get "${options[@]}" -q update
  (cd "$work/debs" && apt-get "${options[@]}" -q download $packages)
  for package in "$work"/debs/*.deb; do dpkg -x "$package" "$root"; done
  rm -rf "$work"
  for folder in bin lib lib64 sbin; do [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"; done
  mkdir -p "$root"/{proc,dev,run,tmp,etc} "$root/var/lock"
  rmdir "$root/var/lock" && ln -sfn /run/lock "$root/var/lock"
  ln -sfn /run "$root/var/run"
  printf 'root:x:0:0::/:/bin/sh\npkcsslotd:x:997:997::/:/bin/false\n' > "$root/etc/passwd"
  printf 'root:x:0:\npkcs11:x:998:root\npkcsslotd:x:997:\n' > "$root/etc/group"
  printf 'version opencryptoki-3.27\nslot 3\n{\n  stdll = libpkcs11_sw.so\n  tokversion = 3.12\n}\n' \
    > "$root/etc/opencryptoki/opencryptoki.conf"
  chown root:998 "$root"/etc/opencryptoki/*.conf
  chmod 640 "$root/etc/opencryptoki/strength.conf"
}

inside() {
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  # A token that nobody has used: its daemon makes what is missing.
  mount -t tmpfs tmpfs "$root/var/lib/opencryptoki"
  folders="run/opencryptoki run/lock/opencryptoki/swtok var/lib/opencryptoki/swtok/TOK_OBJ"
  (cd "$root" && mkdir -p $folders var/log/opencryptoki && chown -R 0:998 run/opencryptoki \
    run/lock/opencryptoki var/lib/opencryptoki && chmod -R 770 run/opencryptoki \
    run/lock/opencryptoki var/lib/opencryptoki && chown 997:998 run/opencryptoki)
  for place in $SHOWN; do
    mkdir -p "$root$place"
    mount --bind "$place" "$root$place"
  done
  chroot --userspec=997:998 --groups=998 "$root" /usr/sbin/pkcsslotd -f >/dev/null 2>&1 &
  for _ in $(seq 100); do [ -S "$root/run/opencryptoki/pkcsslotd.socket" ] && break; sleep 0.1; done
  chroot --groups=998 "$root" "$@"
}

case $what in
  unpack) unpack ;;
  run) exec unshare -m -p -i --fork --kill-child "$0" inside "$root" "$@" ;;
  inside) inside "$@" ;;
esac
