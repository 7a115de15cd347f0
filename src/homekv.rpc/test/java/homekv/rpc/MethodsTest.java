package homekv.rpc;

import static homekv.rpc.Harness.bytes;
import static homekv.rpc.Harness.delete;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.metrics;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import homekv.rpc.proto.CompactRequest;
import homekv.rpc.proto.CompactResponse;
import homekv.rpc.proto.Compare;
import homekv.rpc.proto.DiffRequest;
import homekv.rpc.proto.Durability;
import homekv.rpc.proto.Entry;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.HistoryRequest;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.LeaseGrantRequest;
import homekv.rpc.proto.LeaseGrantResponse;
import homekv.rpc.proto.LeaseRequest;
import homekv.rpc.proto.LeaseStatus;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.Op;
import homekv.rpc.proto.OpResult;
import homekv.rpc.proto.OutOfRange;
import homekv.rpc.proto.Range;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.TxnRequest;
import homekv.rpc.proto.TxnResponse;
import homekv.rpc.proto.WatchRequest;
import homekv.storage.Counters;
import homekv.storage.Limit;
import homekv.storage.Limits;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** Transactions, revisions and leases on the wire, and how every method refuses what means nothing. */
class MethodsTest {
    // ---- Requests ----

    private static Op put(String key, String value, boolean previous) {
        return Op.newBuilder()
                .setPut(Op.Put.newBuilder()
                        .setKey(bytes(key))
                        .setValue(bytes(value))
                        .setPrevious(previous))
                .build();
    }

    private static Op opPut(String key, String value) {
        return put(key, value, false);
    }

    private static Op opGet(String key) {
        return Op.newBuilder().setGet(Op.Get.newBuilder().setKey(bytes(key))).build();
    }

    private static Op increment(String key, long by) {
        return Op.newBuilder()
                .setIncrement(Op.Increment.newBuilder().setKey(bytes(key)).setBy(by))
                .build();
    }

    private static Op opDelete(String prefix, boolean previous) {
        return Op.newBuilder()
                .setDelete(Op.Delete.newBuilder().setRange(prefix(prefix)).setPrevious(previous))
                .build();
    }

    private static Op opScan(Op.Scan.Builder scan) {
        return Op.newBuilder().setScan(scan).build();
    }

    private static Range prefix(String prefix) {
        return Range.newBuilder().setPrefix(bytes(prefix)).build();
    }

    private static Compare.Builder compare(String key) {
        return Compare.newBuilder().setKey(bytes(key));
    }

    private static TxnRequest txn(Op... steps) {
        return TxnRequest.newBuilder().addAllThen(List.of(steps)).build();
    }

    private static GetRequest getAt(long revision, String... keys) {
        return get(keys).toBuilder().setRevision(revision).build();
    }

    private static CompactRequest compact(long revision) {
        return CompactRequest.newBuilder().setRevision(revision).build();
    }

    private static LeaseRequest lease(long lease) {
        return LeaseRequest.newBuilder().setLease(lease).build();
    }

    private static LeaseGrantRequest grant(long ttlMillis, long lease) {
        return LeaseGrantRequest.newBuilder()
                .setTtlMillis(ttlMillis)
                .setLease(lease)
                .build();
    }

    private static Entry entry(String key, String value, long created, long modified, long version, long lease) {
        return Entry.newBuilder()
                .setKey(bytes(key))
                .setValue(bytes(value))
                .setCreateRevision(created)
                .setModificationRevision(modified)
                .setVersion(version)
                .setLease(lease)
                .build();
    }

    // ---- What must hold ----

    /** It is refused with this status and these words, and nothing has changed or been counted. */
    private static void assertRefused(Harness kv, Status.Code code, String words, Executable call) {
        Counters before = kv.store.counters();
        Status status = Harness.status(call);
        assertEquals(code, status.getCode(), status::toString);
        assertTrue(status.getDescription().matches(words), () -> status + "\n  is not " + words);
        Harness.assertNoTrace(status.getDescription());
        assertEquals(before.revision(), kv.store.counters().revision(), words);
        assertEquals(before.commands(), kv.store.counters().commands(), words);
        assertEquals(before.txns(), kv.store.counters().txns(), words);
        assertEquals(before.leases(), kv.store.counters().leases(), words);
        assertEquals(before.compactRevision(), kv.store.counters().compactRevision(), words);
    }

    private static void assertOutOfRange(Harness kv, long first, long last, Executable call) {
        assertRefused(kv, Status.Code.OUT_OF_RANGE, ".*\\b" + first + "\\b.*\\b" + last + "\\b.*", call);
        StatusRuntimeException e = assertThrows(StatusRuntimeException.class, call);
        assertEquals(
                OutOfRange.newBuilder()
                        .setFirstRevision(first)
                        .setLastRevision(last)
                        .build(),
                e.getTrailers().get(Statuses.OUT_OF_RANGE));
    }

    // ---- Revisions ----

    @Test
    void aGetReadsTheRevisionThatItNamesAsLongAsThatIsKept() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(Harness.put("a", "1")));
            stub.set(set(Harness.put("a", "2"), Harness.put("b", "2")));
            stub.set(set(delete("a")));
            assertEquals(
                    List.of(Harness.put("a", "1"), delete("b")),
                    stub.get(getAt(1, "a", "b")).getRecordsList());
            assertEquals(
                    List.of(Harness.put("a", "2"), Harness.put("b", "2")),
                    stub.get(getAt(2, "a", "b")).getRecordsList());
            assertEquals(2, stub.get(getAt(2, "a")).getRevision());
            assertEquals(List.of(delete("a")), stub.get(getAt(0, "a")).getRecordsList());
            assertOutOfRange(kv, 0, 3, () -> stub.get(getAt(4, "a")));
            assertOutOfRange(kv, 0, 3, () -> stub.get(getAt(-1, "a")));
            assertEquals(
                    CompactResponse.newBuilder()
                            .setDurability(Durability.MEMORY)
                            .build(),
                    stub.compact(compact(2)));
            assertEquals(2, metrics(stub).getCompactRevision());
            assertEquals(3, metrics(stub).getRevision());
            assertOutOfRange(kv, 2, 3, () -> stub.get(getAt(1, "a")));
            assertEquals(List.of(Harness.put("a", "2")), stub.get(getAt(2, "a")).getRecordsList());
            assertOutOfRange(kv, 2, 3, () -> stub.compact(compact(1)));
            assertOutOfRange(kv, 2, 3, () -> stub.compact(compact(4)));
            assertOutOfRange(kv, 2, 3, () -> stub.compact(compact(-1)));
            stub.compact(compact(2));
            stub.compact(compact(3));
        }
    }

    // ---- Transactions ----

    @Test
    void aTransactionAnswersEveryStepOfTheBranchThatWasCarriedOut() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(
                    set(Harness.put("a", "1"), Harness.put("n", "41"), Harness.put("x1", "x"), Harness.put("x2", "x")));
            TxnRequest request = TxnRequest.newBuilder()
                    .addCompares(compare("a").setValue(bytes("1")))
                    .addCompares(compare("none").setVersion(0))
                    .addCompares(Compare.newBuilder()
                            .setRange(prefix("x"))
                            .setOperator(Compare.Operator.GREATER)
                            .setCount(1))
                    .addThen(opGet("a"))
                    .addThen(opGet("none"))
                    .addThen(opScan(Op.Scan.newBuilder().setRange(prefix("x")).setLimit(1)))
                    .addThen(opScan(Op.Scan.newBuilder()
                            .setRange(prefix("x"))
                            .setKeysOnly(true)
                            .setDescending(true)))
                    .addThen(opScan(Op.Scan.newBuilder().setCountOnly(true)))
                    .addThen(put("a", "2", true))
                    .addThen(opPut("new", "2"))
                    .addThen(opDelete("x", true))
                    .addThen(increment("n", 1))
                    .addThen(Op.newBuilder()
                            .setTxn(TxnRequest.newBuilder()
                                    .addCompares(compare("a").setValue(bytes("1")))
                                    .addThen(opGet("a"))
                                    .addOtherwise(opScan(Op.Scan.newBuilder()
                                            .setRange(prefix("a"))
                                            .setKeysOnly(true)))))
                    .addOtherwise(opPut("never", "1"))
                    .build();
            TxnResponse response = stub.txn(request);
            Entry x1 = entry("x1", "x", 1, 1, 1, 0);
            Entry x2 = entry("x2", "x", 1, 1, 1, 0);
            Entry keyOfX1 = x1.toBuilder().clearValue().build();
            Entry keyOfX2 = x2.toBuilder().clearValue().build();
            Entry keyOfA = entry("a", "", 1, 2, 2, 0).toBuilder().clearValue().build();
            List<OpResult.Builder> expected = List.of(
                    OpResult.newBuilder().setGot(OpResult.Got.newBuilder().setEntry(entry("a", "1", 1, 1, 1, 0))),
                    OpResult.newBuilder().setGot(OpResult.Got.getDefaultInstance()),
                    OpResult.newBuilder()
                            .setScanned(OpResult.Scanned.newBuilder()
                                    .addEntries(x1)
                                    .setCount(1)
                                    .setMore(true)),
                    OpResult.newBuilder()
                            .setScanned(OpResult.Scanned.newBuilder()
                                    .addEntries(keyOfX2)
                                    .addEntries(keyOfX1)
                                    .setCount(2)),
                    OpResult.newBuilder()
                            .setScanned(OpResult.Scanned.newBuilder().setCount(4)),
                    OpResult.newBuilder().setPut(OpResult.Put.newBuilder().setPrevious(entry("a", "1", 1, 1, 1, 0))),
                    OpResult.newBuilder().setPut(OpResult.Put.getDefaultInstance()),
                    OpResult.newBuilder()
                            .setDeleted(OpResult.Deleted.newBuilder()
                                    .setDeleted(2)
                                    .addPrevious(x1)
                                    .addPrevious(x2)),
                    OpResult.newBuilder()
                            .setIncremented(OpResult.Incremented.newBuilder().setValue(42)),
                    OpResult.newBuilder()
                            .setTransacted(OpResult.Transacted.newBuilder()
                                    .addResults(OpResult.newBuilder()
                                            .setScanned(OpResult.Scanned.newBuilder()
                                                    .addEntries(keyOfA)
                                                    .setCount(1)))));
            assertEquals(
                    TxnResponse.newBuilder()
                            .setRevision(2)
                            .setSucceeded(true)
                            .addAllResults(expected.stream()
                                    .map(OpResult.Builder::build)
                                    .toList())
                            .setDurability(Durability.MEMORY)
                            .build(),
                    response);
            TxnResponse again = stub.txn(request);
            assertEquals(3, again.getRevision());
            assertFalse(again.getSucceeded());
            assertEquals(1, again.getResultsCount());
            assertTrue(stub.get(get("never")).getRecords(0).hasValue());
            assertEquals(2, metrics(stub).getTxnCmdsCount());
            // Nothing to do, and nothing done.
            assertEquals(
                    TxnResponse.newBuilder()
                            .setRevision(3)
                            .setSucceeded(true)
                            .setDurability(Durability.MEMORY)
                            .build(),
                    stub.txn(TxnRequest.getDefaultInstance()));
        }
    }

    @Test
    void theNumbersOfComparisonsAreThoseOfTheEntries() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.leaseGrant(grant(1_000_000, 77));
            stub.set(set(Harness.put("a", "1")));
            stub.set(set(Harness.put("k", "1")).toBuilder().setLease(77).build());
            stub.set(set(Harness.put("k", "2")).toBuilder().setLease(77).build());
            List<Compare.Builder> hold = List.of(
                    compare("k").setVersion(2),
                    compare("k").setCreateRevision(2),
                    compare("k").setModificationRevision(3),
                    compare("k").setLease(77),
                    compare("k").setCount(1),
                    compare("k").setOperator(Compare.Operator.LESS).setVersion(3),
                    compare("k").setOperator(Compare.Operator.LESS).setVersion(-1),
                    compare("k").setOperator(Compare.Operator.GREATER).setValue(bytes("1")),
                    compare("k").setOperator(Compare.Operator.NOT_EQUAL).setLease(0));
            for (Compare.Builder compare : hold) {
                assertTrue(
                        stub.txn(TxnRequest.newBuilder().addCompares(compare).build())
                                .getSucceeded(),
                        compare::toString);
                Compare.Builder opposite = compare.clone()
                        .setOperator(
                                switch (compare.getOperator()) {
                                    case EQUAL -> Compare.Operator.NOT_EQUAL;
                                    case NOT_EQUAL -> Compare.Operator.EQUAL;
                                    case LESS -> Compare.Operator.GREATER;
                                    case GREATER -> Compare.Operator.LESS;
                                    case UNRECOGNIZED -> throw new AssertionError();
                                });
                assertFalse(
                        stub.txn(TxnRequest.newBuilder().addCompares(opposite).build())
                                .getSucceeded(),
                        opposite::toString);
            }
        }
    }

    @Test
    void aTransactionOverALimitIsRefusedAndNothingIsChanged() throws Exception {
        Limits limits = Harness.ROOMY
                .with(Limit.KEY_BYTES, 10)
                .with(Limit.VALUE_BYTES, 10_000)
                .with(Limit.REQUEST_KEYS, 20)
                .with(Limit.RESPONSE_BYTES, 50_000)
                .with(Limit.TXN_DEPTH, 3);
        try (Harness kv = new Harness(limits)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            SetRequest.Builder keys = SetRequest.newBuilder();
            for (int i = 0; i < 20; i++) {
                keys.addRecords(Harness.put("k" + i, bytes(10_000)));
            }
            stub.set(keys.build());
            stub.set(set(Harness.put("word", "word"), Harness.put("most", Long.toString(Long.MAX_VALUE))));
            Op steal = opPut("stolen", "1");
            kv.assertRefused(Limit.KEY_BYTES, 11, () -> stub.txn(txn(steal, opPut("a long key.", "1"))));
            kv.assertRefused(Limit.KEY_BYTES, 12, () -> stub.txn(txn(steal, opDelete("a long key..", false))));
            kv.assertRefused(Limit.VALUE_BYTES, 10_001, () -> stub.txn(txn(steal, opPut("k", "v".repeat(10_001)))));
            Op[] many = new Op[21];
            java.util.Arrays.fill(many, steal);
            kv.assertRefused(Limit.REQUEST_KEYS, 21, () -> stub.txn(txn(many)));
            kv.assertRefused(
                    Limit.REQUEST_KEYS,
                    21,
                    () -> stub.txn(txn(steal, opScan(Op.Scan.newBuilder().setCountOnly(true)))));
            TxnRequest compares = TxnRequest.newBuilder()
                    .addAllThen(List.of(many).subList(0, 11))
                    .addAllCompares(java.util.Collections.nCopies(
                            10, compare("k").setVersion(0).build()))
                    .build();
            kv.assertRefused(Limit.REQUEST_KEYS, 21, () -> stub.txn(compares));
            kv.assertRefused(
                    Limit.RESPONSE_BYTES,
                    "\\d+",
                    () -> stub.txn(txn(steal, opScan(Op.Scan.newBuilder().setLimit(6)))));
            // Values that are not asked for are not counted.
            Op keysOnly = opScan(
                    Op.Scan.newBuilder().setRange(prefix("k")).setLimit(15).setKeysOnly(true));
            assertEquals(15, stub.txn(txn(keysOnly)).getResults(0).getScanned().getEntriesCount());
            Op[] puts = new Op[10];
            for (int i = 0; i < 10; i++) {
                puts[i] = opPut("k" + i, "small");
            }
            assertTrue(stub.txn(txn(puts)).getSucceeded());
            TxnRequest deep = txn(steal);
            for (int depth = 2; depth <= 4; depth++) {
                deep = txn(steal, Op.newBuilder().setTxn(deep).build());
            }
            TxnRequest tooDeep = deep;
            kv.assertRefused(Limit.TXN_DEPTH, 4, () -> stub.txn(tooDeep));
            assertTrue(stub.txn(deep.getThen(1).getTxn()).getSucceeded());
            assertRefused(
                    kv,
                    Status.Code.INVALID_ARGUMENT,
                    "the value of the key \"word\" is no decimal integer, .*",
                    () -> stub.txn(txn(steal, increment("word", 1))));
            assertRefused(
                    kv,
                    Status.Code.INVALID_ARGUMENT,
                    "the value of the key \"most\" .* 9223372036854775807 .*",
                    () -> stub.txn(txn(steal, increment("most", 1))));
            Op attached = Op.newBuilder()
                    .setPut(Op.Put.newBuilder().setKey(bytes("k")).setLease(5))
                    .build();
            assertRefused(
                    kv,
                    Status.Code.NOT_FOUND,
                    "there is no lease 5; it has ended, or never was",
                    () -> stub.txn(txn(steal, attached)));
        }
    }

    /** A write whose answer cannot be sent is no write that was refused. */
    @Test
    void aTransactionWhoseAnswerFindsNoRoomIsRefusedIfItOnlyReadsAndElseSaysThatItWasCarriedOut() throws Exception {
        int room = 1 << 17;
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, room))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(Harness.put("k", bytes(room / 2))));
            TxnRequest reads = txn(opGet("k"), opGet("k"));
            kv.assertRefused(Limit.IN_FLIGHT_BYTES, "\\d+", () -> stub.txn(reads));
            TxnRequest writes = txn(opGet("k"), opGet("k"), opPut("written", "1"));
            Status status = Harness.status(() -> stub.txn(writes));
            assertEquals(Status.Code.UNKNOWN, status.getCode());
            assertTrue(status.getDescription().contains("was carried out, as revision 2,"), status::toString);
            assertTrue(stub.get(get("written")).getRecords(0).hasValue());
            kv.awaitInFlight(0);
        }
    }

    @Test
    void theStepsOfATransactionThatWaitsAreChargedWhatTheyTakeInHeap() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, 100_000))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Op[] steps = new Op[2_000];
            java.util.Arrays.fill(steps, opDelete("k", false));
            assertTrue(txn(steps).getSerializedSize() < 30_000);
            kv.assertRefused(Limit.IN_FLIGHT_BYTES, "\\d+", () -> stub.txn(txn(steps)));
            kv.awaitInFlight(0);
        }
    }

    // ---- Leases ----

    @Test
    void aLeaseIsGrantedKeptAliveLookedAtAndRevokedWithAllItsKeys() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            LeaseGrantResponse granted = stub.leaseGrant(grant(1_000_000, 0));
            assertTrue(granted.getLease() > 0);
            assertEquals(1_000_000, granted.getTtlMillis());
            assertNotEquals(
                    granted.getLease(), stub.leaseGrant(grant(1_000_000, 0)).getLease());
            assertEquals(7, stub.leaseGrant(grant(2_000_000, 7)).getLease());
            assertRefused(
                    kv,
                    Status.Code.ALREADY_EXISTS,
                    "there is a lease 7 already; take another number, or none",
                    () -> stub.leaseGrant(grant(1_000, 7)));
            SetRequest.Builder attach = SetRequest.newBuilder().setLease(7);
            for (int i = 0; i < 2_500; i++) {
                attach.addRecords(Harness.put("k" + i, "1"));
            }
            stub.set(attach.build());
            stub.set(set(Harness.put("k0", "1"), Harness.put("free", "1")));
            for (LeaseStatus status : List.of(stub.leaseTimeLeft(lease(7)), stub.leaseKeepAlive(lease(7)))) {
                assertEquals(7, status.getLease());
                assertEquals(2_000_000, status.getTtlMillis());
                assertTrue(status.getLeftMillis() > 0 && status.getLeftMillis() <= 2_000_000);
                assertEquals(2_499, status.getKeys());
            }
            Metrics metrics = metrics(stub);
            assertEquals(3, metrics.getLeasesCount());
            List<LeaseStatus> all = stub.leaseList(Empty.getDefaultInstance()).getLeasesList();
            assertEquals(3, all.size());
            assertEquals(7, all.get(0).getLease());
            var revoked = stub.leaseRevoke(lease(7));
            assertEquals(2_499, revoked.getDeleted());
            assertEquals(metrics.getRevision() + 3, revoked.getRevision());
            assertEquals(2, metrics(stub).getKeysCount());
            assertEquals(0, stub.leaseRevoke(lease(granted.getLease())).getDeleted());
            for (long none : new long[] {7, 0, 99, -1}) {
                String words = "there is no lease " + Long.toUnsignedString(none) + "; it has ended, or never was";
                assertRefused(kv, Status.Code.NOT_FOUND, words, () -> stub.leaseRevoke(lease(none)));
                assertRefused(kv, Status.Code.NOT_FOUND, words, () -> stub.leaseKeepAlive(lease(none)));
                assertRefused(kv, Status.Code.NOT_FOUND, words, () -> stub.leaseTimeLeft(lease(none)));
            }
            SetRequest late = set(Harness.put("late", "1"), delete("k0")).toBuilder()
                    .setLease(7)
                    .build();
            assertRefused(kv, Status.Code.NOT_FOUND, "there is no lease 7;.*", () -> stub.set(late));
        }
    }

    /** As many keys as one command deletes, and one more and one less. */
    @Test
    void aLeaseIsGoneOnceItIsRevokedHoweverManyKeysItHas() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (int keys : new int[] {0, 1, 999, 1_000, 1_001, 2_000}) {
                stub.leaseGrant(grant(1_000_000, 1));
                SetRequest.Builder attach = SetRequest.newBuilder().setLease(1);
                for (int i = 0; i < keys; i++) {
                    attach.addRecords(Harness.put("k" + i, "1"));
                }
                stub.set(attach.build());
                assertEquals(keys, stub.leaseRevoke(lease(1)).getDeleted());
                assertEquals(0, metrics(stub).getLeasesCount());
                assertEquals(0, metrics(stub).getKeysCount());
            }
        }
    }

    @Test
    void aTimeToLiveOfNothingOrOverTheLimitIsRefused() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.LEASE_MILLIS, 1_000))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            assertRefused(
                    kv,
                    Status.Code.INVALID_ARGUMENT,
                    "a lease lives for at least 1 millisecond",
                    () -> stub.leaseGrant(grant(0, 1)));
            kv.assertRefused(Limit.LEASE_MILLIS, 1_001, () -> stub.leaseGrant(grant(1_001, 0)));
            kv.assertRefused(Limit.LEASE_MILLIS, Long.MAX_VALUE, () -> stub.leaseGrant(grant(-1, 1)));
            assertRefused(
                    kv,
                    Status.Code.INVALID_ARGUMENT,
                    "not a valid LeaseGrantRequest: a lease has the number 18446744073709551615, .*",
                    () -> stub.leaseGrant(grant(10, -1)));
            stub.leaseGrant(grant(1_000, Long.MAX_VALUE));
        }
    }

    // ---- What means nothing ----

    private record Bad(String words, Executable call) {}

    @Test
    void whatIsMissingOrContradictsItselfIsRefusedInWordsThatSaySo() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(Harness.put("k", "1")));
            Range both = prefix("a").toBuilder().setTo(bytes("b")).build();
            Op empty = Op.getDefaultInstance();
            List<Bad> bad = new ArrayList<>(List.of(
                    new Bad(".*a step has nothing to do: .*", () -> stub.txn(txn(empty))),
                    new Bad(
                            ".*a step has nothing to do: .*",
                            () -> stub.txn(TxnRequest.newBuilder()
                                    .addCompares(compare("k").setVersion(1))
                                    .addOtherwise(empty)
                                    .build())),
                    new Bad(
                            ".*a deletion has neither a key nor a range",
                            () -> stub.txn(txn(Op.newBuilder()
                                    .setDelete(Op.Delete.getDefaultInstance())
                                    .build()))),
                    new Bad("a key is empty; .*", () -> stub.txn(txn(opPut("", "1")))),
                    new Bad("a key is empty; .*", () -> stub.txn(txn(opGet("")))),
                    new Bad("a key is empty; .*", () -> stub.txn(txn(increment("", 1)))),
                    new Bad(
                            "a key is empty; .*",
                            () -> stub.txn(TxnRequest.newBuilder()
                                    .addCompares(compare("").setVersion(1))
                                    .build())),
                    new Bad(
                            ".*a range has a prefix and ends beside it; .*",
                            () -> stub.txn(txn(opScan(Op.Scan.newBuilder().setRange(both))))),
                    new Bad(
                            ".*a comparison has neither a key nor a range",
                            () -> stub.txn(TxnRequest.newBuilder()
                                    .addCompares(Compare.newBuilder().setVersion(1))
                                    .build())),
                    new Bad(
                            ".*a comparison has nothing to compare with: .*",
                            () -> stub.txn(TxnRequest.newBuilder()
                                    .addCompares(compare("k"))
                                    .build())),
                    new Bad(
                            ".*a comparison has the unknown operator 4; .*",
                            () -> stub.txn(TxnRequest.newBuilder()
                                    .addCompares(compare("k").setVersion(1).setOperatorValue(4))
                                    .build())),
                    new Bad(
                            "a key is empty; .*",
                            () -> stub.history(HistoryRequest.getDefaultInstance())
                                    .hasNext()),
                    new Bad(
                            "not a valid WatchRequest: no_puts and no_deletes together .*",
                            () -> stub.watch(WatchRequest.newBuilder()
                                            .setNoPuts(true)
                                            .setNoDeletes(true)
                                            .build())
                                    .hasNext()),
                    new Bad(
                            "not a valid WatchRequest: from_revision is 0, .*",
                            () -> stub.watch(WatchRequest.newBuilder()
                                            .setFromRevision(0)
                                            .build())
                                    .hasNext()),
                    new Bad(
                            "not a valid WatchRequest: progress_millis is 99, and has to be 100 at least",
                            () -> stub.watch(WatchRequest.newBuilder()
                                            .setProgressMillis(99)
                                            .build())
                                    .hasNext())));
            bad.add(new Bad(
                    ".*a range has a prefix and ends beside it; .*",
                    () -> stub.scan(ScanRequest.newBuilder().setRange(both).build())
                            .hasNext()));
            bad.add(new Bad(
                    ".*a range has a prefix and ends beside it; .*",
                    () -> stub.diff(DiffRequest.newBuilder().setRange(both).build())
                            .hasNext()));
            bad.add(new Bad(
                    ".*a range has a prefix and ends beside it; .*",
                    () -> stub.watch(WatchRequest.newBuilder().setRange(both).build())
                            .hasNext()));
            for (Bad each : bad) {
                assertRefused(kv, Status.Code.INVALID_ARGUMENT, each.words, each.call);
            }
            kv.awaitInFlight(0);
            assertEquals(0, metrics(stub).getWatchesCount());
        }
    }

    @Test
    void aRangeEndThatIsTooLongIsRefusedInEveryMethodThatTakesARange() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.KEY_BYTES, 10))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Range longest = Range.newBuilder()
                    .setFrom(bytes("k".repeat(10)))
                    .setTo(bytes("k".repeat(10) + "\0"))
                    .build();
            stub.scan(ScanRequest.newBuilder().setRange(longest).build()).next();
            for (Range tooLong : List.of(
                    Range.newBuilder().setFrom(bytes("k".repeat(12))).build(),
                    Range.newBuilder().setTo(bytes("k".repeat(12))).build(),
                    prefix("k".repeat(12)))) {
                List<Executable> calls = List.of(
                        () -> stub.scan(ScanRequest.newBuilder()
                                        .setRange(tooLong)
                                        .build())
                                .hasNext(),
                        () -> stub.diff(DiffRequest.newBuilder()
                                        .setRange(tooLong)
                                        .build())
                                .hasNext(),
                        () -> stub.watch(WatchRequest.newBuilder()
                                        .setRange(tooLong)
                                        .build())
                                .hasNext(),
                        () -> stub.txn(txn(opScan(Op.Scan.newBuilder().setRange(tooLong)))));
                for (Executable call : calls) {
                    kv.assertRefused(Limit.KEY_BYTES, 12, call);
                }
            }
            kv.assertRefused(
                    Limit.KEY_BYTES,
                    11,
                    () -> stub.history(HistoryRequest.newBuilder()
                                    .setKey(bytes("k".repeat(11)))
                                    .build())
                            .hasNext());
        }
    }

    /** Neither messages that are none nor calls that are cut short do any harm, whatever the method. */
    @Test
    void everyMethodRefusesWhatIsNoMessageAndTwoMessagesAndNone() throws Exception {
        Set<String> methods = new HashSet<>();
        homekv.rpc.proto.HomeKvProto.getDescriptor()
                .findServiceByName("HomeKvService")
                .getMethods()
                .forEach(method -> methods.add(method.getName()));
        assertEquals(17, methods.size());
        Set<String> withoutRequest =
                Set.of("Metrics", "LeaseList", "Snapshot", "Backup"); // They do not look at theirs.
        byte[] noMessage = {(byte) 0xff, (byte) 0xff};
        try (Harness kv = new Harness()) {
            RawHttp2 raw = kv.raw();
            for (String method : methods) {
                String path = HomeKvService.NAME + "/" + method;
                if (!withoutRequest.contains(method)) {
                    RawHttp2.Stream refused = raw.call(path, noMessage);
                    assertEquals(Status.Code.INVALID_ARGUMENT.value(), refused.status(), method);
                    assertTrue(refused.message().startsWith("not a valid "), refused::message);
                }
                RawHttp2.Stream none = raw.start(path);
                raw.send(none, new byte[0], true);
                assertEquals(
                        Status.Code.INVALID_ARGUMENT.value(), raw.await(none).status(), method);
                RawHttp2.Stream two = raw.start(path);
                raw.send(two, RawHttp2.message(new byte[0]), false);
                raw.send(two, RawHttp2.message(new byte[0]), true);
                assertEquals(
                        Status.Code.INVALID_ARGUMENT.value(), raw.await(two).status(), method);
                RawHttp2.Stream left = raw.start(path);
                raw.send(left, RawHttp2.message(new byte[0]), true);
                raw.cancel(left);
            }
            raw.roundTrip();
            kv.awaitInFlight(0);
            Harness.await("the watch is closed", () -> kv.store.counters().watches() == 0);
            assertEquals(0, kv.store.counters().revision());
        }
    }
}
