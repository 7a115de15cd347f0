package homekv.storage;

import java.util.List;

/**
 * Every bound of a store and of the server around it, in one place. Immutable.
 *
 * <p>A command over one of the first three, over {@code txnDepth} or over {@code leaseMillis} is refused before anything
 * is changed. {@code requestBytes} and {@code inFlightBytes} are kept by a server and mean nothing to an embedded store;
 * all others the store keeps itself.
 *
 * @param keyBytes the longest key; the shortest is one byte
 * @param valueBytes the longest value
 * @param requestKeys how many keys one command or read may name, repeated ones counted each time; and how many one
 *     transaction may go through
 * @param requestBytes the largest request message
 * @param responseBytes the largest response message, and the most bytes of keys and values that a transaction answers
 * @param inFlightBytes the most bytes that the requests and responses of all calls under way may take together; a
 *     request is charged 64 bytes for each of its keys besides its own
 * @param memoryBytes the most that the store's account of the heap it holds may reach: beyond it, puts are refused
 * @param historyBytes the most that the history window may take: what older revisions can be read, and whose changes can
 *     be watched, beside the newest. Beyond it, and where memory is short, its oldest revisions are given up
 * @param historyMillis how long the history window may reach back
 * @param snapshotBytes the most that versions may take which only open snapshots keep, because they have left the
 *     history window: beyond it, the oldest snapshots expire
 * @param snapshotMillis how long a snapshot may keep old versions from being reclaimed before it expires
 * @param openSnapshots how many snapshots may be open at once
 * @param openWatches how many watches may be open at once
 * @param txnDepth how deep transactions may lie within each other; 1: not at all
 * @param leaseMillis the longest time to live that a lease may have
 * @param heapRegionBytes what the collector rounds arrays of more than half of it up to (G1's region size), so that
 *     the account of large values is true; 0 where it rounds nothing
 * @param compactHeaders whether the JVM gives objects compact headers ({@code -XX:+UseCompactObjectHeaders}), so that the
 *     account of small keys is true; where it is wrongly false, the account says up to a tenth too much
 */
public record Limits(
        int keyBytes,
        int valueBytes,
        int requestKeys,
        int requestBytes,
        int responseBytes,
        long inFlightBytes,
        long memoryBytes,
        long historyBytes,
        long historyMillis,
        long snapshotBytes,
        long snapshotMillis,
        int openSnapshots,
        int openWatches,
        int txnDepth,
        long leaseMillis,
        int heapRegionBytes,
        boolean compactHeaders) {

    /** The largest message that can be set: twice as much still fits the transport's own bound, an {@code int}. */
    public static final int MAX_MESSAGE_BYTES = 1 << 30;

    /** The most that any limit of memory can be: more than a heap can have, and sums of it do not overflow. */
    static final long MAX_HEAP_BYTES = 1L << 50;

    /** The longest time that can be set, more than a hundred years. */
    static final long MAX_MILLIS = 1L << 42;

    private static final long MIB = 1 << 20;

    /** Heap that the classes and buffers of a process take before it stores anything. */
    private static final long BASE_HEAP_BYTES = 24 * MIB;

    public Limits {
        Limit.KEY_BYTES.requireInRange(keyBytes);
        Limit.VALUE_BYTES.requireInRange(valueBytes);
        Limit.REQUEST_KEYS.requireInRange(requestKeys);
        Limit.REQUEST_BYTES.requireInRange(requestBytes);
        Limit.RESPONSE_BYTES.requireInRange(responseBytes);
        Limit.IN_FLIGHT_BYTES.requireInRange(inFlightBytes);
        Limit.MEMORY_BYTES.requireInRange(memoryBytes);
        Limit.HISTORY_BYTES.requireInRange(historyBytes);
        Limit.HISTORY_MILLIS.requireInRange(historyMillis);
        Limit.SNAPSHOT_BYTES.requireInRange(snapshotBytes);
        Limit.SNAPSHOT_MILLIS.requireInRange(snapshotMillis);
        Limit.OPEN_SNAPSHOTS.requireInRange(openSnapshots);
        Limit.OPEN_WATCHES.requireInRange(openWatches);
        Limit.TXN_DEPTH.requireInRange(txnDepth);
        Limit.LEASE_MILLIS.requireInRange(leaseMillis);
        if (heapRegionBytes < 0) {
            throw new IllegalArgumentException("heapRegionBytes is " + heapRegionBytes + "; 0 says there are none");
        }
    }

    /**
     * The default limits of a process whose Java heap may grow to {@code maxHeapBytes} and which mostly stores: three
     * fifths of the heap for the store, an eighth for calls under way, the rest for the collector to work in.
     */
    public static Limits forHeap(long maxHeapBytes) {
        long memoryBytes = Math.max(0, maxHeapBytes - BASE_HEAP_BYTES) / 5 * 3;
        return new Limits(
                64 << 10,
                16 << 20,
                100_000,
                64 << 20,
                64 << 20,
                Math.max(MIB, maxHeapBytes / 8),
                memoryBytes,
                memoryBytes / 4,
                300_000,
                memoryBytes / 4,
                300_000,
                1 << 16,
                1 << 16,
                8,
                MAX_MILLIS,
                0,
                false);
    }

    /** The default limits for this process's heap. */
    public static Limits defaults() {
        return forHeap(Runtime.getRuntime().maxMemory());
    }

    /** The value of one limit. */
    public long get(Limit limit) {
        return switch (limit) {
            case KEY_BYTES -> keyBytes;
            case VALUE_BYTES -> valueBytes;
            case REQUEST_KEYS -> requestKeys;
            case REQUEST_BYTES -> requestBytes;
            case RESPONSE_BYTES -> responseBytes;
            case IN_FLIGHT_BYTES -> inFlightBytes;
            case MEMORY_BYTES -> memoryBytes;
            case HISTORY_BYTES -> historyBytes;
            case HISTORY_MILLIS -> historyMillis;
            case SNAPSHOT_BYTES -> snapshotBytes;
            case SNAPSHOT_MILLIS -> snapshotMillis;
            case OPEN_SNAPSHOTS -> openSnapshots;
            case OPEN_WATCHES -> openWatches;
            case TXN_DEPTH -> txnDepth;
            case LEASE_MILLIS -> leaseMillis;
        };
    }

    /**
     * These limits with one of them replaced.
     *
     * @throws IllegalArgumentException if {@code value} is outside what that limit can be; the message says what
     */
    public Limits with(Limit limit, long value) {
        limit.requireInRange(value);
        int narrow = (int) value; // Where an int is wanted, the range is that of an int.
        return new Limits(
                limit == Limit.KEY_BYTES ? narrow : keyBytes,
                limit == Limit.VALUE_BYTES ? narrow : valueBytes,
                limit == Limit.REQUEST_KEYS ? narrow : requestKeys,
                limit == Limit.REQUEST_BYTES ? narrow : requestBytes,
                limit == Limit.RESPONSE_BYTES ? narrow : responseBytes,
                limit == Limit.IN_FLIGHT_BYTES ? value : inFlightBytes,
                limit == Limit.MEMORY_BYTES ? value : memoryBytes,
                limit == Limit.HISTORY_BYTES ? value : historyBytes,
                limit == Limit.HISTORY_MILLIS ? value : historyMillis,
                limit == Limit.SNAPSHOT_BYTES ? value : snapshotBytes,
                limit == Limit.SNAPSHOT_MILLIS ? value : snapshotMillis,
                limit == Limit.OPEN_SNAPSHOTS ? narrow : openSnapshots,
                limit == Limit.OPEN_WATCHES ? narrow : openWatches,
                limit == Limit.TXN_DEPTH ? narrow : txnDepth,
                limit == Limit.LEASE_MILLIS ? value : leaseMillis,
                heapRegionBytes,
                compactHeaders);
    }

    /** These limits for a collector that rounds large arrays up to multiples of {@code regionBytes}. */
    public Limits withHeapRegionBytes(int regionBytes) {
        return with(regionBytes, compactHeaders);
    }

    /** These limits for a JVM that gives objects compact headers, or does not. */
    public Limits withCompactHeaders(boolean compact) {
        return with(heapRegionBytes, compact);
    }

    private Limits with(int regionBytes, boolean compact) {
        return new Limits(
                keyBytes,
                valueBytes,
                requestKeys,
                requestBytes,
                responseBytes,
                inFlightBytes,
                memoryBytes,
                historyBytes,
                historyMillis,
                snapshotBytes,
                snapshotMillis,
                openSnapshots,
                openWatches,
                txnDepth,
                leaseMillis,
                regionBytes,
                compact);
    }

    /** Why the command would be refused whatever the store holds, or null if it would not. */
    public Result.Refused check(Command command) {
        return switch (command) {
            case Command.Set set -> {
                Result.Refused refused = checkCount(set.writes().size());
                for (int i = 0; refused == null && i < set.writes().size(); i++) {
                    refused = check(set.writes().get(i));
                }
                yield refused;
            }
            case Command.Del del -> checkKeys(del.keys());
            case Txn txn -> new TxnCheck().check(txn);
            case Command.Grant grant ->
                grant.ttlMillis() >= 1 && grant.ttlMillis() <= leaseMillis
                        ? null
                        : new Result.Refused(Limit.LEASE_MILLIS, grant.ttlMillis(), leaseMillis);
            case Command.Compact compact -> null;
            case Command.Revoke revoke -> null;
        };
    }

    /** Counts through a transaction and all that are within it. */
    private final class TxnCheck {
        private int steps;
        private int depth;

        Result.Refused check(Txn txn) {
            if (++depth > txnDepth) {
                return new Result.Refused(Limit.TXN_DEPTH, depth, txnDepth);
            }
            Result.Refused refused = null;
            for (int i = 0; refused == null && i < txn.compares().size(); i++) {
                refused = check(txn.compares().get(i));
            }
            refused = refused != null ? refused : check(txn.then());
            refused = refused != null ? refused : check(txn.otherwise());
            depth--;
            return refused;
        }

        private Result.Refused check(List<Op> ops) {
            Result.Refused refused = null;
            for (int i = 0; refused == null && i < ops.size(); i++) {
                Op op = ops.get(i);
                refused = checkCount(++steps);
                if (refused == null) {
                    refused = switch (op) {
                        case Op.Get get -> checkKey(get.key());
                        case Op.Scan scan -> Limits.this.check(scan.range());
                        case Op.Put put -> checkPair(put.key(), put.value());
                        case Op.Delete delete -> Limits.this.check(delete.range());
                        case Op.Increment increment -> checkKey(increment.key());
                        case Txn txn -> check(txn);
                    };
                }
            }
            return refused;
        }

        private Result.Refused check(Compare compare) {
            Result.Refused refused = checkCount(++steps);
            if (refused == null) {
                refused = Limits.this.check(compare.range());
            }
            if (refused == null && compare instanceof Compare.Value value) {
                refused = checkValue(value.value());
            }
            return refused;
        }
    }

    /** Why reading a range would be refused, or null if it would not: its ends are keys, or a byte more. */
    public Result.Refused check(Range range) {
        int longest = Math.max(
                range.from().length(), range.to() == null ? 0 : range.to().length());
        return longest <= keyBytes + 1 ? null : new Result.Refused(Limit.KEY_BYTES, longest, keyBytes);
    }

    /** Why a command or read that names these keys would be refused, or null if it would not. */
    public Result.Refused checkKeys(List<Bytes> keys) {
        Result.Refused refused = checkCount(keys.size());
        for (int i = 0; refused == null && i < keys.size(); i++) {
            refused = checkKey(keys.get(i));
        }
        return refused;
    }

    private Result.Refused check(Write write) {
        return switch (write) {
            case Write.Put put -> checkPair(put.key(), put.value());
            case Write.Delete delete -> checkKey(delete.key());
        };
    }

    private Result.Refused checkPair(Bytes key, Bytes value) {
        Result.Refused refused = checkKey(key);
        return refused != null ? refused : checkValue(value);
    }

    private Result.Refused checkValue(Bytes value) {
        return value.length() <= valueBytes ? null : new Result.Refused(Limit.VALUE_BYTES, value.length(), valueBytes);
    }

    private Result.Refused checkKey(Bytes key) {
        int length = key.length();
        return length >= 1 && length <= keyBytes ? null : new Result.Refused(Limit.KEY_BYTES, length, keyBytes);
    }

    private Result.Refused checkCount(int keys) {
        return keys <= requestKeys ? null : new Result.Refused(Limit.REQUEST_KEYS, keys, requestKeys);
    }
}
