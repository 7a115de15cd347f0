package homekv.rpc;

import homekv.rpc.proto.OutOfRange;
import homekv.storage.Bytes;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.LogStoppedException;
import homekv.storage.Result;
import homekv.storage.RevisionOutOfRangeException;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import java.io.IOException;
import java.util.EnumSet;
import java.util.Locale;
import java.util.Set;

/**
 * Every gRPC status that this server answers, and the words that go with it: what is wrong, how large it is, which
 * limit says so, which flag of the server sets that, and what to do.
 */
final class Statuses {
    /** How a call ends. Metadata is not immutable: an ending is for one call. */
    record Ending(Status status, Metadata trailers) {
        Ending(Status status) {
            this(status, new Metadata());
        }
    }

    /** {@code homekv-out-of-range-bin} */
    static final Metadata.Key<OutOfRange> OUT_OF_RANGE =
            Metadata.Key.of("homekv-out-of-range-bin", ProtoUtils.metadataMarshaller(OutOfRange.getDefaultInstance()));

    /** Of a write that was refused because the log has stopped: what that means for the write. */
    static final Metadata.Key<String> LOG_STOPPED =
            Metadata.Key.of("homekv-log-stopped", Metadata.ASCII_STRING_MARSHALLER);

    static final String UNCHANGED = "unchanged";
    static final String UNKNOWN = "unknown";

    /** In the words of a RESOURCE_EXHAUSTED after which a write may have been carried out; the protocol says so. */
    static final String MAY_BE_CARRIED_OUT = "it may or may not have been carried out";

    private static final System.Logger LOGGER = System.getLogger(Statuses.class.getName());

    /** What no flag of the server sets. */
    private static final Set<Limit> WITHOUT_FLAG = EnumSet.range(Limit.SNAPSHOT_BYTES, Limit.LEASE_MILLIS);

    /** The longest key that is written out in a message. */
    private static final int SHOWN_KEY_BYTES = 64;

    private Statuses() {}

    /** The server's flag that sets a limit. */
    static String flag(Limit limit) {
        return switch (limit) {
            case HISTORY_BYTES -> "--history-bytes";
            case HISTORY_MILLIS -> "--history-duration";
            default -> "--max-" + limit.name().toLowerCase(Locale.ROOT).replace('_', '-');
        };
    }

    /** How a call ends that failed, whatever threw it; {@code request} names its message. */
    static Ending ending(Throwable failure, String request) {
        return switch (failure) {
            case RefusedException e -> refused(e.refused);
            case RevisionOutOfRangeException e -> outOfRange(e.getMessage(), e.first(), e.last());
            case OtherStoreException e -> outOfRange(e.getMessage(), e.first, e.last);
            case LogStoppedException e -> logStopped(e);
            case IOException e ->
                new Ending(Status.INVALID_ARGUMENT.withDescription("not a valid " + request + ": " + e.getMessage()));
            default -> new Ending(failed(failure));
        };
    }

    private static Ending refused(Result result) {
        return switch (result) {
            case Result.Refused refused -> new Ending(refused(refused));
            case Result.NotAnInteger refused ->
                new Ending(Status.INVALID_ARGUMENT.withDescription("the value of the key " + shown(refused.key())
                        + " is no decimal integer, or with this increment would not be from " + Long.MIN_VALUE + " to "
                        + Long.MAX_VALUE + " any more"));
            case Result.NoLease refused ->
                new Ending(Status.NOT_FOUND.withDescription("there is no lease "
                        + Long.toUnsignedString(refused.lease()) + "; it has ended, or never was"));
            case Result.LeaseExists refused ->
                new Ending(Status.ALREADY_EXISTS.withDescription(
                        "there is a lease " + refused.lease() + " already; take another number, or none"));
            case Result.OutOfRange refused ->
                outOfRange(
                        "revision " + refused.revision() + " cannot be read"
                                + (refused.revision() < refused.first() ? " any more" : "")
                                + "; the first that can is " + refused.first() + ", the last is " + refused.last()
                                + (refused.revision() < refused.first() ? "; start again at a newer one" : ""),
                        refused.first(),
                        refused.last());
            case Result.DiskFull refused ->
                new Ending(Status.RESOURCE_EXHAUSTED.withDescription("the disk of the server's log has "
                        + refused.freeBytes() + " bytes free, and this write needs " + refused.requiredBytes()
                        + " (--min-free-bytes; deletions need a quarter of it); make room, and write again"));
            case Result.Applied applied -> throw new AssertionError("no refusal: " + applied);
            case Result.Transacted transacted -> throw new AssertionError("no refusal: " + transacted);
        };
    }

    private static Ending logStopped(LogStoppedException e) {
        Metadata trailers = new Metadata();
        trailers.put(LOG_STOPPED, e.outcomeUnknown() ? UNKNOWN : UNCHANGED);
        return new Ending(Status.UNAVAILABLE.withDescription(e.getMessage()), trailers);
    }

    private static Ending outOfRange(String words, long first, long last) {
        Metadata trailers = new Metadata();
        trailers.put(
                OUT_OF_RANGE,
                OutOfRange.newBuilder()
                        .setFirstRevision(first)
                        .setLastRevision(last)
                        .build());
        return new Ending(Status.OUT_OF_RANGE.withDescription(words), trailers);
    }

    /** A key in a message: as it is if that is short and can be read, else its first bytes. */
    private static String shown(Bytes key) {
        byte[] bytes = key.unsafeArray();
        boolean readable = bytes.length <= SHOWN_KEY_BYTES;
        for (int i = 0; readable && i < bytes.length; i++) {
            readable = bytes[i] >= ' ' && bytes[i] <= '~';
        }
        return readable ? "\"" + key.utf8() + "\"" : key.toString();
    }

    /** The status of a refusal that cannot be carried further as what it is. */
    static Status refused(RefusedException e) {
        return refused(e.refused).status();
    }

    static Status refused(Result.Refused refused) {
        return switch (refused.limit()) {
            case KEY_BYTES ->
                refused.actual() == 0
                        ? Status.INVALID_ARGUMENT.withDescription("a key is empty; a key has at least 1 byte")
                        : Status.INVALID_ARGUMENT.withDescription(over("a key has %d bytes", refused));
            case VALUE_BYTES -> Status.INVALID_ARGUMENT.withDescription(over("a value has %d bytes", refused));
            case REQUEST_KEYS ->
                Status.INVALID_ARGUMENT.withDescription(
                        over("the request names or goes through %d keys or more", refused));
            case TXN_DEPTH ->
                Status.INVALID_ARGUMENT.withDescription(
                        over("transactions lie %d deep or more within each other", refused));
            case LEASE_MILLIS ->
                refused.actual() == 0
                        ? Status.INVALID_ARGUMENT.withDescription("a lease lives for at least 1 millisecond")
                        : Status.INVALID_ARGUMENT.withDescription(
                                over("the lease would live for %d milliseconds", refused));
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
            case OPEN_SNAPSHOTS ->
                Status.RESOURCE_EXHAUSTED.withDescription(
                        over("with this call %d snapshots would be open", refused) + "; try again");
            case OPEN_WATCHES ->
                Status.RESOURCE_EXHAUSTED.withDescription(
                        over("with this call %d watches would be open", refused) + "; close some, or try again");
            case HISTORY_BYTES, HISTORY_MILLIS, SNAPSHOT_BYTES, SNAPSHOT_MILLIS ->
                throw new AssertionError("nothing is refused for " + refused.limit());
        };
    }

    private static String over(String whatFormat, Result.Refused refused) {
        return String.format(Locale.ROOT, whatFormat, refused.actual()) + ", the limit is " + refused.allowed()
                + (WITHOUT_FLAG.contains(refused.limit()) ? "" : " (" + flag(refused.limit()) + ")");
    }

    /** Refuses a request that is so large that it is not even received whole. */
    static Status requestTooLarge(long receivedBytes, Limits limits) {
        return Status.RESOURCE_EXHAUSTED.withDescription("the request has " + receivedBytes
                + " bytes or more, the limit is " + limits.requestBytes() + " (" + flag(Limit.REQUEST_BYTES) + ")");
    }

    static Status wrongMessageCount() {
        return Status.INVALID_ARGUMENT.withDescription("this method takes exactly one request message");
    }

    static Status stopping() {
        return Status.UNAVAILABLE.withDescription("the server is stopping");
    }

    static Status backupExpired() {
        return Status.OUT_OF_RANGE.withDescription(
                "the backup took so long that what has been overwritten since finds no"
                        + " room beside what is there; take it again, to somewhere faster or while less is written");
    }

    static Status noSnapshotFiles() {
        return Status.FAILED_PRECONDITION.withDescription("this server lives in memory alone and has no snapshot files;"
                + " take a backup, or start it with --data-dir");
    }

    static Status snapshotFileFailed(IOException e) {
        return Status.INTERNAL.withDescription(e.getMessage() + "; the log goes on, and nothing is lost by that");
    }

    /** The client does not want the answer any more; nobody reads this. */
    static Status cancelled() {
        return Status.CANCELLED.withDescription("the call has ended before it was carried out");
    }

    /** The transaction has changed the store, and what it answers cannot be sent. No code that asks for a retry. */
    static Status carriedOutUnanswered(long revision, long responseBytes) {
        return Status.UNKNOWN.withDescription("the transaction was carried out, as revision " + revision
                + ", but its response of " + responseBytes
                + " bytes finds no room beside the other calls under way; read again what is wanted of it");
    }

    /** The status of a call that failed for a reason of the server's own. */
    static Status failed(Throwable failure) {
        return switch (failure) {
            case OutOfMemoryError e ->
                Status.RESOURCE_EXHAUSTED.withDescription(
                        "the server has no memory left for this call; if it was a write, " + MAY_BE_CARRIED_OUT);
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
