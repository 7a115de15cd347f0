package homekv.rpc;

/** A call that did not come back with a result. The message is one line and says what to do. */
public final class HomeKvException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** What the caller may do about it. */
    public enum Reason {
        /** The request is wrong or over a limit of the server's: change it. Nothing was changed. */
        INVALID,

        /** The server has no room for it: try again later, or with less at once. Nothing was changed. */
        NO_ROOM,

        /**
         * The server was not reached, went away, or did not answer in time: try again later. A write may or may not
         * have been carried out.
         */
        UNREACHABLE,

        /** Anything else, such as a server that does not know the method or has failed. */
        FAILED
    }

    private final Reason reason;

    HomeKvException(Reason reason, String message, Throwable cause) {
        super(message, cause);
        this.reason = reason;
    }

    /** What the caller may do about it. */
    public Reason reason() {
        return reason;
    }
}
