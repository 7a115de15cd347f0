package homekv.rpc;

import homekv.storage.Result;

/** Carries a refusal out of the depth of a request. */
final class RefusedException extends Exception {
    private static final long serialVersionUID = 1;

    final transient Result.Refused refused;

    RefusedException(Result.Refused refused) {
        super(refused.toString(), null, false, false);
        this.refused = refused;
    }
}
