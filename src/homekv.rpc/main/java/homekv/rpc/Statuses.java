package homekv.rpc;

import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.Result;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.util.Locale;

/**
 * Every gRPC status that this server answers, and the words that go with it: what is wrong, how large it is, which
 * limit says so, which flag of the server sets that, and what to do.
 */
final class Statuses {
    private static final System.Logger LOGGER = System.getLogger(Statuses.class.getName());

    private Statuses() {}

    /** The server's flag that sets a limit. */
    static String flag(Limit limit) {
        return "--max-" + limit.name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    static Status refused(Result.Refused refused) {
        return switch (refused.limit()) {
            case KEY_BYTES ->
                refused.actual() == 0
                        ? Status.INVALID_ARGUMENT.withDescription("a key is empty; a key has at least 1 byte")
                        : Status.INVALID_ARGUMENT.withDescription(over("a key has %d bytes", refused));
            case VALUE_BYTES -> Status.INVALID_ARGUMENT.withDescription(over("a value has %d bytes", refused));
            case REQUEST_KEYS -> Status.INVALID_ARGUMENT.withDescription(over("the request names %d keys", refused));
            case REQUEST_BYTES -> Status.RESOURCE_EXHAUSTED.withDescription(over("the request has %d bytes", refused));
            case RESPONSE_BYTES ->
                Status.RESOURCE_EXHAUSTED.withDescription(
                        over("the response would have %d bytes", refused) + "; ask for fewer keys at once");
            case MEMORY_BYTES ->
                Status.RESOURCE_EXHAUSTED.withDescription(over("with this write the store would hold %d bytes", refused)
                        + "; delete something, or start the server with more --memory");
            case IN_FLIGHT_BYTES ->
                refused.actual() > refused.allowed()
                        ? Status.RESOURCE_EXHAUSTED.withDescription(
                                over("%d bytes or more can never find room here", refused)
                                        + "; send less at once, or start the server with more --memory")
                        : Status.RESOURCE_EXHAUSTED.withDescription(
                                over("%d bytes find no room beside the other calls under way", refused)
                                        + "; try again, or with less at once");
            case HISTORY_BYTES, SNAPSHOT_MILLIS, OPEN_SNAPSHOTS ->
                throw new AssertionError("no command is refused for " + refused.limit());
        };
    }

    private static String over(String whatFormat, Result.Refused refused) {
        return String.format(Locale.ROOT, whatFormat, refused.actual()) + ", the limit is " + refused.allowed() + " ("
                + flag(refused.limit()) + ")";
    }

    /** Refuses a request that is so large that it is not even received whole. */
    static Status requestTooLarge(long receivedBytes, Limits limits) {
        return Status.RESOURCE_EXHAUSTED.withDescription("the request has " + receivedBytes
                + " bytes or more, the limit is " + limits.requestBytes() + " (" + flag(Limit.REQUEST_BYTES) + ")");
    }

    static Status malformed(String message, IOException cause) {
        return Status.INVALID_ARGUMENT.withDescription("not a valid " + message + ": " + cause.getMessage());
    }

    static Status wrongMessageCount() {
        return Status.INVALID_ARGUMENT.withDescription("this method takes exactly one request message");
    }

    /** The status of a call that failed for a reason of the server's own. */
    static Status failed(Throwable failure) {
        return switch (failure) {
            case OutOfMemoryError e ->
                Status.RESOURCE_EXHAUSTED.withDescription(
                        "the server has no memory left for this call; nothing was changed");
            case StatusRuntimeException e -> e.getStatus();
            case IllegalStateException e -> Status.UNAVAILABLE.withDescription(e.getMessage());
            default -> {
                StackTraceElement[] trace = failure.getStackTrace();
                LOGGER.log(
                        System.Logger.Level.ERROR,
                        "a call failed: " + failure + (trace.length > 0 ? " at " + trace[0] : ""));
                yield Status.INTERNAL.withDescription("the server failed to carry this out; its log says why");
            }
        };
    }
}
