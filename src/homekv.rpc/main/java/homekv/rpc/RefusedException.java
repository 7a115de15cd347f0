package homekv.rpc;

import homekv.storage.Result;

/** Carries a refusal out of the depth of a request. */
final class RefusedException extends Exception {
    private static final long serialVersionUID = 1;

    /** Any result that says why a command, or a read, was not carried out. */
    final transient Result refused;

    RefusedException(Result refused) {
        this(refused, null);
    }

    RefusedException(Result refused, Throwable cause) {
        super(refused.toString(), cause, false, false);
        this.refused = refused;
    }
}
