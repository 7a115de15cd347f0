package homekv.rpc;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.UnsafeByteOperations;
import homekv.rpc.proto.DiffResponse;
import homekv.rpc.proto.LeaseListResponse;
import homekv.rpc.proto.TxnResponse;
import homekv.storage.Bytes;
import homekv.storage.Difference;
import homekv.storage.Durability;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.LeaseStatus;
import homekv.storage.Op;
import homekv.storage.OpResult;
import homekv.storage.Result;
import homekv.storage.Txn;
import java.util.List;

/**
 * What the store answers as messages, and how large they get, which is known before they are built. Keys and values are
 * not copied.
 */
final class ServerMessages {
    /** The most that an entry takes on the wire beside its key and its value, its place in another message included. */
    private static final int ENTRY_OVERHEAD_BYTES = 64;

    /** The same for the step of a transaction, and for an event or a difference, without the entries in it. */
    private static final int OVERHEAD_BYTES = 32;

    /** The most that a LeaseStatus takes: four numbers, and its place in a list. */
    private static final int LEASE_BYTES = 64;

    private ServerMessages() {}

    static ByteString unsafeWrap(Bytes bytes) {
        return UnsafeByteOperations.unsafeWrap(bytes.unsafeArray());
    }

    /** The size of a length-delimited field with a number below 16: tag, length and content. */
    static long fieldBytes(long contentBytes) {
        return 1 + CodedOutputStream.computeUInt64SizeNoTag(contentBytes) + contentBytes;
    }

    static homekv.rpc.proto.Durability durability(Durability durability) {
        return switch (durability) {
            case MEMORY -> homekv.rpc.proto.Durability.MEMORY;
            case WRITTEN -> homekv.rpc.proto.Durability.WRITTEN;
            case INTERVAL -> homekv.rpc.proto.Durability.INTERVAL;
            case FORCED -> homekv.rpc.proto.Durability.FORCED;
        };
    }

    // ---- Entries, events, differences ----

    static long entryBytes(Entry entry, boolean keysOnly) {
        return entry == null
                ? 0
                : ENTRY_OVERHEAD_BYTES
                        + entry.key().length()
                        + (keysOnly ? 0 : entry.value().length());
    }

    static homekv.rpc.proto.Entry entry(Entry entry, boolean keysOnly) {
        homekv.rpc.proto.Entry.Builder message = homekv.rpc.proto.Entry.newBuilder()
                .setKey(unsafeWrap(entry.key()))
                .setCreateRevision(entry.createRevision())
                .setModificationRevision(entry.modificationRevision())
                .setVersion(entry.version())
                .setLease(entry.lease());
        if (!keysOnly) {
            message.setValue(unsafeWrap(entry.value()));
        }
        return message.build();
    }

    private static homekv.rpc.proto.Entry entry(Entry entry) {
        return entry(entry, false);
    }

    static long eventBytes(Event event) {
        long entryBytes = switch (event) {
            case Event.Put put -> entryBytes(put.entry(), false);
            case Event.Delete delete -> 0;
        };
        return OVERHEAD_BYTES + event.key().length() + entryBytes + entryBytes(event.previous(), false);
    }

    static homekv.rpc.proto.Event event(Event event) {
        homekv.rpc.proto.Event.Builder message = homekv.rpc.proto.Event.newBuilder()
                .setKey(unsafeWrap(event.key()))
                .setRevision(event.revision());
        switch (event) {
            case Event.Put put -> message.setEntry(entry(put.entry()));
            case Event.Delete delete -> {}
        }
        if (event.previous() != null) {
            message.setPrevious(entry(event.previous()));
        }
        return message.build();
    }

    static long differenceBytes(Difference difference) {
        return OVERHEAD_BYTES + entryBytes(difference.before(), false) + entryBytes(difference.after(), false);
    }

    static DiffResponse.Difference difference(Difference difference) {
        DiffResponse.Difference.Builder message = DiffResponse.Difference.newBuilder();
        if (difference.before() != null) {
            message.setBefore(entry(difference.before()));
        }
        if (difference.after() != null) {
            message.setAfter(entry(difference.after()));
        }
        return message.build();
    }

    // ---- Transactions ----

    static long transactedBytes(Txn txn, Result.Transacted transacted) {
        return OVERHEAD_BYTES + resultBytes(steps(txn, transacted.succeeded()), transacted.results());
    }

    private static List<Op> steps(Txn txn, boolean succeeded) {
        return succeeded ? txn.then() : txn.otherwise();
    }

    private static long resultBytes(List<Op> steps, List<OpResult> results) {
        long bytes = 0;
        for (int i = 0; i < results.size(); i++) {
            bytes += OVERHEAD_BYTES
                    + switch (results.get(i)) {
                        case OpResult.Got got -> entryBytes(got.entry(), false);
                        case OpResult.Scanned scanned ->
                            entryBytes(scanned.entries(), ((Op.Scan) steps.get(i)).keysOnly());
                        case OpResult.Put put -> entryBytes(put.previous(), false);
                        case OpResult.Deleted deleted -> entryBytes(deleted.previous(), false);
                        case OpResult.Incremented incremented -> 0;
                        case OpResult.Transacted transacted ->
                            resultBytes(steps((Txn) steps.get(i), transacted.succeeded()), transacted.results());
                    };
        }
        return bytes;
    }

    private static long entryBytes(List<Entry> entries, boolean keysOnly) {
        long bytes = 0;
        for (Entry entry : entries) {
            bytes += entryBytes(entry, keysOnly);
        }
        return bytes;
    }

    static TxnResponse transacted(Txn txn, Result.Transacted transacted, homekv.rpc.proto.Durability durability) {
        TxnResponse.Builder response = TxnResponse.newBuilder()
                .setRevision(transacted.revision())
                .setSucceeded(transacted.succeeded())
                .setDurability(durability);
        List<Op> steps = steps(txn, transacted.succeeded());
        for (int i = 0; i < transacted.results().size(); i++) {
            response.addResults(result(steps.get(i), transacted.results().get(i)));
        }
        return response.build();
    }

    private static homekv.rpc.proto.OpResult result(Op step, OpResult result) {
        homekv.rpc.proto.OpResult.Builder message = homekv.rpc.proto.OpResult.newBuilder();
        switch (result) {
            case OpResult.Got got -> {
                if (got.entry() != null) {
                    message.getGotBuilder().setEntry(entry(got.entry()));
                } else {
                    message.setGot(homekv.rpc.proto.OpResult.Got.getDefaultInstance());
                }
            }
            case OpResult.Scanned scanned -> {
                boolean keysOnly = ((Op.Scan) step).keysOnly();
                homekv.rpc.proto.OpResult.Scanned.Builder scannedMessage =
                        message.getScannedBuilder().setCount(scanned.count()).setMore(scanned.more());
                scanned.entries().forEach(entry -> scannedMessage.addEntries(entry(entry, keysOnly)));
            }
            case OpResult.Put put -> {
                if (put.previous() != null) {
                    message.getPutBuilder().setPrevious(entry(put.previous()));
                } else {
                    message.setPut(homekv.rpc.proto.OpResult.Put.getDefaultInstance());
                }
            }
            case OpResult.Deleted deleted -> {
                homekv.rpc.proto.OpResult.Deleted.Builder deletedMessage =
                        message.getDeletedBuilder().setDeleted(deleted.deleted());
                deleted.previous().forEach(entry -> deletedMessage.addPrevious(entry(entry)));
            }
            case OpResult.Incremented incremented ->
                message.getIncrementedBuilder().setValue(incremented.value());
            case OpResult.Transacted transacted -> {
                homekv.rpc.proto.OpResult.Transacted.Builder transactedMessage =
                        message.getTransactedBuilder().setSucceeded(transacted.succeeded());
                List<Op> steps = steps((Txn) step, transacted.succeeded());
                for (int i = 0; i < transacted.results().size(); i++) {
                    transactedMessage.addResults(
                            result(steps.get(i), transacted.results().get(i)));
                }
            }
        }
        return message.build();
    }

    // ---- Leases ----

    static homekv.rpc.proto.LeaseStatus lease(LeaseStatus lease) {
        return homekv.rpc.proto.LeaseStatus.newBuilder()
                .setLease(lease.id())
                .setTtlMillis(lease.ttlMillis())
                .setLeftMillis(lease.leftMillis())
                .setKeys(lease.keys())
                .build();
    }

    static long leasesBytes(List<LeaseStatus> leases) {
        return (long) leases.size() * LEASE_BYTES;
    }

    static LeaseListResponse leases(List<LeaseStatus> leases) {
        LeaseListResponse.Builder response = LeaseListResponse.newBuilder();
        leases.forEach(lease -> response.addLeases(lease(lease)));
        return response.build();
    }
}
