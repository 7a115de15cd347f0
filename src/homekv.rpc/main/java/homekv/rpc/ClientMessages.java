package homekv.rpc;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import homekv.rpc.proto.DiffResponse;
import homekv.rpc.proto.TxnRequest;
import homekv.rpc.proto.TxnResponse;
import homekv.storage.Bytes;
import homekv.storage.Compare;
import homekv.storage.Difference;
import homekv.storage.Durability;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.LeaseStatus;
import homekv.storage.Op;
import homekv.storage.OpResult;
import homekv.storage.Range;
import homekv.storage.Txn;
import java.util.ArrayList;
import java.util.List;

/**
 * The protocol's messages from the client's side: requests made of the store's records, and records made of answers, each
 * answer checked to be one that a server could give.
 */
final class ClientMessages {
    private static final Bytes NO_VALUE = Bytes.unsafeWrap(new byte[0]);

    private final Connection connection;

    /** Of answers that come over this connection. */
    ClientMessages(Connection connection) {
        this.connection = connection;
    }

    // ---- Requests ----

    static ByteString unsafeWrap(Bytes bytes) {
        return UnsafeByteOperations.unsafeWrap(bytes.unsafeArray());
    }

    static homekv.rpc.proto.Range range(Range range) {
        var message = homekv.rpc.proto.Range.newBuilder().setFrom(unsafeWrap(range.from()));
        if (range.to() != null) {
            message.setTo(unsafeWrap(range.to()));
        }
        return message.build();
    }

    static TxnRequest txn(Txn txn) {
        TxnRequest.Builder message = TxnRequest.newBuilder();
        txn.compares().forEach(compare -> message.addCompares(compare(compare)));
        txn.then().forEach(op -> message.addThen(op(op)));
        txn.otherwise().forEach(op -> message.addOtherwise(op(op)));
        return message.build();
    }

    private static homekv.rpc.proto.Compare compare(Compare compare) {
        var message = homekv.rpc.proto.Compare.newBuilder();
        if (isKey(compare.range())) {
            message.setKey(unsafeWrap(compare.range().from()));
        } else {
            message.setRange(range(compare.range()));
        }
        switch (compare) {
            case Compare.Number number -> {
                message.setOperator(operator(number.operator()));
                switch (number.field()) {
                    case VERSION -> message.setVersion(number.number());
                    case CREATE_REVISION -> message.setCreateRevision(number.number());
                    case MODIFICATION_REVISION -> message.setModificationRevision(number.number());
                    case LEASE -> message.setLease(number.number());
                }
            }
            case Compare.Value value ->
                message.setOperator(operator(value.operator())).setValue(unsafeWrap(value.value()));
            case Compare.Count count ->
                message.setOperator(operator(count.operator())).setCount(count.count());
        }
        return message.build();
    }

    private static homekv.rpc.proto.Compare.Operator operator(Compare.Operator operator) {
        return switch (operator) {
            case EQUAL -> homekv.rpc.proto.Compare.Operator.EQUAL;
            case NOT_EQUAL -> homekv.rpc.proto.Compare.Operator.NOT_EQUAL;
            case LESS -> homekv.rpc.proto.Compare.Operator.LESS;
            case GREATER -> homekv.rpc.proto.Compare.Operator.GREATER;
        };
    }

    private static homekv.rpc.proto.Op op(Op op) {
        var message = homekv.rpc.proto.Op.newBuilder();
        switch (op) {
            case Op.Get get ->
                message.setGet(homekv.rpc.proto.Op.Get.newBuilder().setKey(unsafeWrap(get.key())));
            case Op.Scan scan ->
                message.setScan(homekv.rpc.proto.Op.Scan.newBuilder()
                        .setRange(range(scan.range()))
                        .setDescending(scan.descending())
                        .setLimit(scan.limit())
                        .setKeysOnly(scan.keysOnly())
                        .setCountOnly(scan.countOnly()));
            case Op.Put put ->
                message.setPut(homekv.rpc.proto.Op.Put.newBuilder()
                        .setKey(unsafeWrap(put.key()))
                        .setValue(unsafeWrap(put.value()))
                        .setLease(put.lease())
                        .setPrevious(put.previous()));
            case Op.Delete delete -> {
                var deletion = homekv.rpc.proto.Op.Delete.newBuilder().setPrevious(delete.previous());
                if (isKey(delete.range())) {
                    deletion.setKey(unsafeWrap(delete.range().from()));
                } else {
                    deletion.setRange(range(delete.range()));
                }
                message.setDelete(deletion);
            }
            case Op.Increment increment ->
                message.setIncrement(homekv.rpc.proto.Op.Increment.newBuilder()
                        .setKey(unsafeWrap(increment.key()))
                        .setBy(increment.by()));
            case Txn txn -> message.setTxn(txn(txn));
        }
        return message.build();
    }

    private static boolean isKey(Range range) {
        return range.equals(Range.key(range.from()));
    }

    // ---- Answers ----

    static Bytes bytes(ByteString bytes) {
        return Bytes.unsafeWrap(bytes.toByteArray());
    }

    /** Null where the server does not say, or is newer and knows another one. */
    static Durability durability(homekv.rpc.proto.Durability message) {
        return switch (message) {
            case DURABILITY_UNSPECIFIED, UNRECOGNIZED -> null;
            case MEMORY -> Durability.MEMORY;
            case WRITTEN -> Durability.WRITTEN;
            case INTERVAL -> Durability.INTERVAL;
            case FORCED -> Durability.FORCED;
        };
    }

    /** An entry with its value, but of {@code keysOnly} with an empty one. */
    Entry entry(homekv.rpc.proto.Entry message, boolean keysOnly) {
        boolean possible = !message.getKey().isEmpty()
                && (keysOnly || message.hasValue())
                && message.getVersion() > 0
                && message.getCreateRevision() > 0
                && message.getModificationRevision() >= message.getCreateRevision();
        if (!possible) {
            throw connection.wrongAnswer("answered with an entry that no key can have");
        }
        return new Entry(
                bytes(message.getKey()),
                keysOnly ? NO_VALUE : bytes(message.getValue()),
                message.getCreateRevision(),
                message.getModificationRevision(),
                message.getVersion(),
                message.getLease());
    }

    private Entry entryOrNull(boolean present, homekv.rpc.proto.Entry message) {
        return present ? entry(message, false) : null;
    }

    private List<Entry> entries(List<homekv.rpc.proto.Entry> messages, boolean keysOnly) {
        List<Entry> entries = new ArrayList<>(messages.size());
        messages.forEach(message -> entries.add(entry(message, keysOnly)));
        return entries;
    }

    HomeKvClient.Transacted transacted(Txn txn, TxnResponse message) {
        List<Op> carriedOut = message.getSucceeded() ? txn.then() : txn.otherwise();
        return new HomeKvClient.Transacted(
                message.getRevision(),
                message.getSucceeded(),
                results(carriedOut, message.getResultsList()),
                durability(message.getDurability()));
    }

    private List<OpResult> results(List<Op> ops, List<homekv.rpc.proto.OpResult> messages) {
        if (ops.size() != messages.size()) {
            throw connection.wrongAnswer("answered " + ops.size() + " steps with " + messages.size() + " results");
        }
        List<OpResult> results = new ArrayList<>(ops.size());
        for (int i = 0; i < ops.size(); i++) {
            results.add(result(ops.get(i), messages.get(i)));
        }
        return results;
    }

    private OpResult result(Op op, homekv.rpc.proto.OpResult message) {
        return switch (op) {
            case Op.Get get -> {
                require(message.hasGot());
                yield new OpResult.Got(entryOrNull(
                        message.getGot().hasEntry(), message.getGot().getEntry()));
            }
            case Op.Scan scan -> {
                require(message.hasScanned());
                var scanned = message.getScanned();
                yield new OpResult.Scanned(
                        entries(scanned.getEntriesList(), scan.keysOnly()), scanned.getCount(), scanned.getMore());
            }
            case Op.Put put -> {
                require(message.hasPut());
                yield new OpResult.Put(entryOrNull(
                        message.getPut().hasPrevious(), message.getPut().getPrevious()));
            }
            case Op.Delete delete -> {
                require(message.hasDeleted());
                var deleted = message.getDeleted();
                yield new OpResult.Deleted(deleted.getDeleted(), entries(deleted.getPreviousList(), false));
            }
            case Op.Increment increment -> {
                require(message.hasIncremented());
                yield new OpResult.Incremented(message.getIncremented().getValue());
            }
            case Txn txn -> {
                require(message.hasTransacted());
                var done = message.getTransacted();
                List<Op> carriedOut = done.getSucceeded() ? txn.then() : txn.otherwise();
                yield new OpResult.Transacted(done.getSucceeded(), results(carriedOut, done.getResultsList()));
            }
        };
    }

    private void require(boolean ofTheSameKind) {
        if (!ofTheSameKind) {
            throw connection.wrongAnswer("answered a step with the result of another kind of step");
        }
    }

    Event event(homekv.rpc.proto.Event message) {
        if (!message.hasEntry()) {
            if (message.getKey().isEmpty()) {
                throw connection.wrongAnswer("answered with a change of no key");
            }
            return new Event.Delete(
                    bytes(message.getKey()),
                    message.getRevision(),
                    entryOrNull(message.hasPrevious(), message.getPrevious()));
        }
        Entry entry = entry(message.getEntry(), false);
        if (entry.modificationRevision() != message.getRevision()) {
            throw connection.wrongAnswer("answered with a change whose entry has another revision");
        }
        return new Event.Put(entry, entryOrNull(message.hasPrevious(), message.getPrevious()));
    }

    Difference difference(DiffResponse.Difference message) {
        Entry before = entryOrNull(message.hasBefore(), message.getBefore());
        Entry after = entryOrNull(message.hasAfter(), message.getAfter());
        if (before == null && after == null
                || before != null && after != null && !before.key().equals(after.key())) {
            throw connection.wrongAnswer("answered with a difference of no key, or of two");
        }
        return new Difference(before, after);
    }

    LeaseStatus lease(long asked, homekv.rpc.proto.LeaseStatus message) {
        if (message.getLease() != asked || asked <= 0) {
            throw connection.wrongAnswer("answered with another lease");
        }
        return new LeaseStatus(asked, message.getTtlMillis(), message.getLeftMillis(), message.getKeys());
    }
}
