// The Q# of the *.ll beside this file, which the compiler of qdk 1.33.1 (MIT licence) made of them:
// `qsharp.init(target_profile=...)`, `qsharp.eval(source)`, `qsharp.compile("Main()")`, with
// TargetProfile.Base for bell and ccx, and Adaptive_RIF for the others.

// bell.ll
operation Main() : Result[] { use q = Qubit[2]; H(q[0]); CNOT(q[0], q[1]); MResetEachZ(q) }

// ccx.ll
operation Main() : Result[] {
    use q = Qubit[3];
    H(q[0]); H(q[1]); CCNOT(q[0], q[1], q[2]); Rzz(0.3, q[0], q[1]); S(q[2]); Adjoint T(q[0]);
    SWAP(q[0], q[2]); H(q[0]);
    MResetEachZ(q)
}

// equal.ll
operation Main() : Bool {
    use q = Qubit[2];
    H(q[0]); H(q[1]);
    let (a, b) = (MResetZ(q[0]), MResetZ(q[1]));
    a == b
}

// count_ones.ll
operation Main() : Int {
    mutable n = 0;
    for i in 0..3 { use q = Qubit(); H(q); if MResetZ(q) == One { n += 1; } }
    n
}

// phase_estimation.ll: three bits of the phase 0.3, the lowest first, each fed forward.
operation Main() : Int {
    use (t, c) = (Qubit(), Qubit());
    X(t);
    mutable bits = 0;
    mutable angle = 0.0;
    for k in 0..2 {
        H(c);
        let p = 2.0 * 3.141592653589793 * 0.3 * Std.Convert.IntAsDouble(2^(2 - k));
        Controlled R1([c], (p, t));
        R1(-3.141592653589793 * angle, c);
        H(c);
        angle = angle / 2.0;
        if MResetZ(c) == One { bits += 2^k; angle += 0.5; }
    }
    Reset(t);
    bits
}

// nested.ll
operation Main() : Result[] {
    use q = Qubit[3];
    H(q[0]);
    let a = M(q[0]);
    if a == One {
        H(q[1]);
        let b = M(q[1]);
        if b == One { X(q[2]); } else { H(q[2]); }
    } else { X(q[1]); }
    let out = [M(q[0]), M(q[1]), M(q[2])];
    ResetAll(q);
    out
}

// until_success.ll
operation Main() : Result {
    use (t, a) = (Qubit(), Qubit());
    mutable done = false;
    for _ in 1..3 {
        if not done {
            H(a); CNOT(a, t); T(t); H(a);
            if MResetZ(a) == Zero { done = true; } else { X(t); }
        }
    }
    H(t);
    MResetZ(t)
}
