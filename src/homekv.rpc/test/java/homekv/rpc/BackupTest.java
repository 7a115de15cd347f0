package homekv.rpc;

import static homekv.rpc.Harness.bytes;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.metrics;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Empty;
import homekv.rpc.proto.BackupResponse;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.SetRequest;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.SnapshotFileInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Backups over gRPC: what is sent, how they wait for who reads it, and how they end. */
@Timeout(120) // A stream that does not end would else be read for ever.
class BackupTest {
    private static final int PIECE = 256 << 10;
    private static final String BACKUP = "homekv_service.HomeKvService/Backup";

    /** Without a history window: what is overwritten is held only as long as somebody may read it. */
    private static final Limits NO_HISTORY = Harness.ROOMY.with(Limit.HISTORY_BYTES, 0);

    private static void fill(HomeKvServiceBlockingStub stub, int keys, int valueBytes) {
        for (int first = 0; first < keys; first += 500) {
            SetRequest.Builder request = SetRequest.newBuilder();
            for (int i = first; i < Math.min(keys, first + 500); i++) {
                request.addRecords(put(String.format("k%05d", i), bytes(valueBytes)));
            }
            stub.set(request.build());
        }
    }

    private static RawHttp2.Stream startAndStall(Harness kv, RawHttp2 raw, String... headers) throws IOException {
        raw.slowReader = true;
        RawHttp2.Stream slow = raw.start(BACKUP, headers);
        raw.send(slow, RawHttp2.message(new byte[0]), true);
        raw.awaitBody(slow, 60_000);
        Harness.await("what has not been sent is charged", () -> kv.server.bytesInFlight() > PIECE);
        return slow;
    }

    private static boolean nothingOldIsHeld(HomeKvServiceBlockingStub stub) {
        var metrics = metrics(stub);
        return metrics.getVersionsCount() == metrics.getKeysCount64();
    }

    // ---- What is sent ----

    @Test
    void aBackupComesInPiecesOf256KiBAndThenSaysWhatItIs() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 3_000, 1_000);
            stub.set(set(put("large", bytes(3 << 20)), put("k00000", "again")));
            List<BackupResponse> responses = new ArrayList<>();
            stub.backup(Empty.getDefaultInstance()).forEachRemaining(responses::add);
            ByteString whole = ByteString.EMPTY;
            for (BackupResponse response : responses.subList(0, responses.size() - 1)) {
                assertTrue(
                        response.getData().size() <= PIECE,
                        () -> response.getData().size() + " bytes");
                assertFalse(response.hasRevision());
                whole = whole.concat(response.getData());
            }
            for (BackupResponse full : responses.subList(0, responses.size() - 2)) {
                assertEquals(PIECE, full.getData().size());
            }
            assertEquals(
                    BackupResponse.newBuilder()
                            .setRevision(7)
                            .setKeys(3_001)
                            .setBytes(whole.size())
                            .build(),
                    responses.get(responses.size() - 1));
            assertTrue(whole.size() > 6_000_000);

            ByteArrayOutputStream received = new ByteArrayOutputStream();
            SnapshotFileInfo info = kv.client().backup(received);
            assertEquals(new SnapshotFileInfo("", 7, 3_001, whole.size()), info);
            assertEquals(whole.size(), received.size());
            kv.awaitInFlight(0);
        }
    }

    @Test
    void aStoreWithoutKeysHasABackup() throws Exception {
        try (Harness kv = new Harness()) {
            ByteArrayOutputStream received = new ByteArrayOutputStream();
            SnapshotFileInfo info = kv.client().backup(received);
            assertEquals(new SnapshotFileInfo("", 0, 0, received.size()), info);
            assertTrue(received.size() > 0);
        }
    }

    // ---- Clients that do not read ----

    @Test
    void aBackupByAClientThatDoesNotReadHoldsAPieceOrTwoAndHoldsUpNobodyAndEndsWithItsClient() throws Exception {
        try (Harness kv = new Harness(NO_HISTORY)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            kv.awaitInFlight(0);
            for (int round = 0; round < 3; round++) {
                RawHttp2 raw = kv.raw();
                RawHttp2.Stream slow = startAndStall(kv, raw);
                for (int i = 0; i < 20; i++) {
                    stub.set(set(put("k04999", "" + i)));
                    assertEquals(
                            List.of(put("k04999", "" + i)),
                            stub.get(get("k04999")).getRecordsList());
                }
                assertTrue(kv.server.bytesInFlight() <= 4 * PIECE, () -> kv.server.bytesInFlight() + " bytes");
                assertFalse(slow.ended());
                assertFalse(nothingOldIsHeld(stub), "the backup's revision is not kept");
                if (round < 2) {
                    raw.close();
                } else {
                    raw.cancel(slow);
                }
                kv.awaitInFlight(0);
                Harness.await("what was kept for it is let go of", () -> nothingOldIsHeld(stub));
            }
        }
    }

    @Test
    void aBackupWhoseDeadlinePassesWhileNobodyReadsLetsGoOfWhatWasKeptForIt() throws Exception {
        try (Harness kv = new Harness(NO_HISTORY)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            RawHttp2 raw = kv.raw();
            startAndStall(kv, raw, "grpc-timeout", "300m");
            stub.set(set(put("k04999", "new")));
            kv.awaitInFlight(0);
            Harness.await("the deadline passes", () -> nothingOldIsHeld(stub));
        }
    }

    /** It gives way to writes, as every snapshot does. */
    @Test
    void aBackupThatNobodyReadsDoesNotKeepWhatIsOverwrittenForEver() throws Exception {
        try (Harness kv = new Harness(NO_HISTORY.with(Limit.SNAPSHOT_BYTES, 1 << 20))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            RawHttp2 raw = kv.raw();
            RawHttp2.Stream slow = startAndStall(kv, raw);
            fill(stub, 5_000, 1_001);
            Harness.await("what it keeps is let go of", () -> nothingOldIsHeld(stub));
            raw.cancel(slow);
            kv.awaitInFlight(0);

            Iterator<BackupResponse> late = kv.stub().backup(Empty.getDefaultInstance());
            assertTrue(late.next().getData().size() > 0);
            fill(stub, 5_000, 1_000);
            StatusRuntimeException e =
                    assertThrows(StatusRuntimeException.class, () -> late.forEachRemaining(piece -> {}));
            assertEquals(Status.Code.OUT_OF_RANGE, e.getStatus().getCode());
            assertTrue(e.getStatus().getDescription().contains("take it again"), e::toString);
        }
    }

    @Test
    void asManyBackupsAsSnapshotsAreTakenAndOneMoreIsRefused() throws Exception {
        try (Harness kv = new Harness(NO_HISTORY.with(Limit.OPEN_SNAPSHOTS, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            RawHttp2 raw = kv.raw();
            RawHttp2.Stream slow = startAndStall(kv, raw);
            kv.assertRefusal(
                    Limit.OPEN_SNAPSHOTS,
                    2,
                    Harness.status(() -> stub.backup(Empty.getDefaultInstance()).hasNext()));
            raw.cancel(slow);
            kv.awaitInFlight(0);
            kv.client().backup(OutputStream.nullOutputStream());
        }
    }

    @Test
    void aServerThatStopsGivesABackupItsPatienceAndNoMore() throws Exception {
        try (Harness kv = new Harness()) {
            fill(kv.stub(), 5_000, 1_000);
            startAndStall(kv, kv.raw());
            assertFalse(kv.server.stop(Duration.ofMillis(50)));
            kv.server.awaitStop();
            kv.awaitInFlight(0);
        }
    }

    /** A value that is larger than what is left for all calls. */
    @Test
    void aBackupThatFindsNoRoomEndsAndLeavesNothing() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, 4 << 20))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("large", bytes(3_900_000))));
            kv.awaitInFlight(0);
            StatusRuntimeException e = assertThrows(
                    StatusRuntimeException.class,
                    () -> stub.backup(Empty.getDefaultInstance()).forEachRemaining(piece -> {}));
            kv.assertRefusal(Limit.IN_FLIGHT_BYTES, "\\d+", e.getStatus());
            kv.awaitInFlight(0);
            assertTrue(stub.set(set(put("small", "1"))).getSucc());
        }
    }

    // ---- The client ----

    @Test
    void whatTheClientsStreamThrowsEndsTheBackupOnBothSides() throws Exception {
        try (Harness kv = new Harness(NO_HISTORY)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            kv.awaitInFlight(0);
            OutputStream full = new OutputStream() {
                @Override
                public void write(int b) throws IOException {
                    throw new IOException("No space left on device");
                }
            };
            HomeKvClient client = kv.client();
            IOException e = assertThrows(IOException.class, () -> client.backup(full));
            assertEquals("No space left on device", e.getMessage());
            kv.awaitInFlight(0);
            stub.set(set(put("k04999", "new")));
            Harness.await("nothing is kept for it", () -> nothingOldIsHeld(stub));
        }
    }
}
