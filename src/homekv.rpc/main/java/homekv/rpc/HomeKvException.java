package homekv.rpc;

import homekv.rpc.proto.OutOfRange;
import java.util.OptionalLong;

/** A call that did not come back with a result. The message is one line and says what to do. */
public final class HomeKvException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** What the caller may do about it. */
    public enum Reason {
        /** The request is wrong or over a limit of the server's: change it. Nothing was changed. */
        INVALID,

        /**
         * A revision that is older than the history window, or has yet to come: ask for one from
         * {@link HomeKvException#firstRevision()} to {@link HomeKvException#lastRevision()}. Nothing was changed.
         */
        OUT_OF_RANGE,

        /** There is no such lease; it has ended, or never was. Nothing was changed. */
        NOT_FOUND,

        /**
         * The server has no room for it: try again later, or with less at once. Nothing was changed, unless the message
         * says that it may have been.
         */
        NO_ROOM,

        /**
         * The server was not reached, went away, or did not answer in time: try again later. A write may or may not
         * have been carried out.
         */
        UNREACHABLE,

        /**
         * The server's log has stopped for good, because its disk has failed: whoever runs the server has to mend that and
         * start it again; it can still be read. The message says whether nothing was changed, or whether that is not known.
         */
        LOG_STOPPED,

        /** Anything else, such as a server that does not know the method or has failed. */
        FAILED
    }

    private final Reason reason;
    private final transient OutOfRange outOfRange;

    HomeKvException(Reason reason, String message, Throwable cause) {
        this(reason, message, null, cause);
    }

    /** With the revisions that can be read, null where the server did not say. */
    HomeKvException(Reason reason, String message, OutOfRange outOfRange, Throwable cause) {
        super(message, cause);
        this.reason = reason;
        this.outOfRange = outOfRange;
    }

    /** What the caller may do about it. */
    public Reason reason() {
        return reason;
    }

    /** The first revision that could be read or watched; with {@link Reason#OUT_OF_RANGE} only, and if the server said so. */
    public OptionalLong firstRevision() {
        return outOfRange == null ? OptionalLong.empty() : OptionalLong.of(outOfRange.getFirstRevision());
    }

    /** The last revision that could be read or watched; with {@link Reason#OUT_OF_RANGE} only, and if the server said so. */
    public OptionalLong lastRevision() {
        return outOfRange == null ? OptionalLong.empty() : OptionalLong.of(outOfRange.getLastRevision());
    }
}
