package homekv.rpc;

import com.google.protobuf.MessageLite;
import homekv.rpc.proto.CompactResponse;
import homekv.rpc.proto.Durability;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.LeaseGrantResponse;
import homekv.rpc.proto.LeaseListResponse;
import homekv.rpc.proto.LeaseRevokeResponse;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.MetricsResponse;
import homekv.rpc.proto.SnapshotResponse;
import homekv.rpc.proto.TxnResponse;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Counters;
import homekv.storage.LeaseStatus;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MvccStore;
import homekv.storage.Op;
import homekv.storage.Reading;
import homekv.storage.Result;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Txn;
import homekv.storage.Write;
import io.grpc.MethodDescriptor;
import io.grpc.ServerMethodDefinition;
import io.grpc.ServerServiceDefinition;
import io.grpc.ServiceDescriptor;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Stream;

/** The methods of HomeKvService: each reads its request, talks to the store or its log, and builds the response. */
final class HomeKvService {
    static final String NAME = HomeKvServiceGrpc.SERVICE_NAME;

    private static final long MAX_UINT32 = (1L << 32) - 1;

    /** What a key costs in heap beside its own bytes and its value's, from when it is read until its call ends. */
    static final int KEY_OVERHEAD_BYTES = 64;

    /** The same for a step or a comparison of a transaction, which may have a range for its key. */
    static final int STEP_OVERHEAD_BYTES = 192;

    private final MvccStore store;
    private final CommandLog log;
    private final Durability durability;
    private final Limits limits;
    private final StreamedReads streamed;
    private final long startNanos = System.nanoTime();

    HomeKvService(MvccStore store, CommandLog log) {
        this.store = store;
        this.log = log;
        this.durability = ServerMessages.durability(log.durability());
        this.limits = store.limits();
        this.streamed = new StreamedReads(store);
    }

    /** What a gRPC server needs to know of the service: the methods of the generated code, request bodies unread. */
    ServerServiceDefinition definition() {
        List<ServerMethodDefinition<InputStream, ?>> methods = List.of(
                // An older revision is found by going through all versions since, of each key.
                written(
                        HomeKvServiceGrpc.getGetMethod(),
                        new UnaryCall.Method<>(
                                this::keys,
                                this::get,
                                request -> request.revision().isEmpty(),
                                request -> sole(request.keys()))),
                written(
                        HomeKvServiceGrpc.getSetMethod(),
                        new UnaryCall.Method<>(
                                this::writes,
                                this::set,
                                writes -> true,
                                writes -> writes.size() == 1 ? writes.get(0).key() : null)),
                written(
                        HomeKvServiceGrpc.getDelMethod(),
                        new UnaryCall.Method<>(
                                this::keys, this::del, request -> true, request -> sole(request.keys()))),
                unary(HomeKvServiceGrpc.getMetricsMethod(), (body, inFlight) -> metrics()),
                unary(HomeKvServiceGrpc.getTxnMethod(), this::txn),
                unary(HomeKvServiceGrpc.getCompactMethod(), (body, inFlight) -> compact(body)),
                unary(HomeKvServiceGrpc.getLeaseGrantMethod(), (body, inFlight) -> leaseGrant(body)),
                unary(HomeKvServiceGrpc.getLeaseKeepAliveMethod(), (body, inFlight) -> leaseKeepAlive(body)),
                unary(HomeKvServiceGrpc.getLeaseRevokeMethod(), (body, inFlight) -> leaseRevoke(body)),
                unary(HomeKvServiceGrpc.getLeaseTimeLeftMethod(), (body, inFlight) -> leaseTimeLeft(body)),
                unary(HomeKvServiceGrpc.getLeaseListMethod(), (body, inFlight) -> leaseList(inFlight)),
                unary(HomeKvServiceGrpc.getSnapshotMethod(), (body, inFlight) -> writeSnapshotFile()),
                streaming(HomeKvServiceGrpc.getScanMethod(), streamed::scan),
                streaming(HomeKvServiceGrpc.getHistoryMethod(), streamed::history),
                streaming(HomeKvServiceGrpc.getDiffMethod(), streamed::diff),
                streaming(HomeKvServiceGrpc.getWatchMethod(), streamed::watch),
                streaming(HomeKvServiceGrpc.getBackupMethod(), streamed::backup));
        ServiceDescriptor generated = HomeKvServiceGrpc.getServiceDescriptor();
        ServiceDescriptor.Builder descriptor =
                ServiceDescriptor.newBuilder(generated.getName()).setSchemaDescriptor(generated.getSchemaDescriptor());
        methods.forEach(method -> descriptor.addMethod(method.getMethodDescriptor()));
        ServerServiceDefinition.Builder definition = ServerServiceDefinition.builder(descriptor.build());
        methods.forEach(definition::addMethod);
        return definition.build();
    }

    /** Of a method whose response is a message. */
    private interface Unary<ResponseT> {
        ResponseT answer(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

    private <ResponseT> ServerMethodDefinition<InputStream, InputStream> unary(
            MethodDescriptor<?, ResponseT> method, Unary<ResponseT> answer) {
        MethodDescriptor.Marshaller<ResponseT> marshaller = method.getResponseMarshaller();
        return written(
                method, UnaryCall.Method.of((body, inFlight) -> marshaller.stream(answer.answer(body, inFlight))));
    }

    private <RequestT> ServerMethodDefinition<InputStream, InputStream> written(
            MethodDescriptor<?, ?> method, UnaryCall.Method<RequestT> answer) {
        return ServerMethodDefinition.create(
                method.toBuilder(RequestCall.UNREAD, RequestCall.UNREAD).build(),
                (call, headers) -> new UnaryCall<>(call, headers, store, answer));
    }

    private <ResponseT extends MessageLite> ServerMethodDefinition<InputStream, ResponseT> streaming(
            MethodDescriptor<?, ResponseT> method, StreamCall.Method<ResponseT> answer) {
        return ServerMethodDefinition.create(
                method.toBuilder(RequestCall.UNREAD, method.getResponseMarshaller())
                        .build(),
                (call, headers) -> new StreamCall<>(call, headers, store, answer));
    }

    /** Ends every watch, also those that have yet to come, since they would go on for ever. Any thread. */
    void endWatches(Status status) {
        streamed.endWatches(status);
    }

    private RequestDecoder decoder(InputStream body) {
        return new RequestDecoder(body, limits);
    }

    // ---- Keys ----

    private RequestDecoder.Get keys(InputStream body, InFlightBytes.Call inFlight)
            throws IOException, RefusedException {
        RequestDecoder.Get request = decoder(body).get();
        charge((long) request.keys().size() * KEY_OVERHEAD_BYTES, inFlight);
        return request;
    }

    private List<Write> writes(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException {
        List<Write> writes = decoder(body).writes();
        charge((long) writes.size() * KEY_OVERHEAD_BYTES, inFlight);
        return writes;
    }

    private static Bytes sole(List<Bytes> keys) {
        return keys.size() == 1 ? keys.get(0) : null;
    }

    private WireResponse get(RequestDecoder.Get request, InFlightBytes.Call inFlight) throws RefusedException {
        List<Bytes> keys = request.keys();
        Reading reading = request.revision().isPresent()
                ? store.read(keys, request.revision().getAsLong())
                : store.read(keys);
        long responseBytes = WireResponse.getBytes(keys, reading);
        requireRoom(responseBytes, inFlight);
        store.countGet();
        return WireResponse.get(keys, reading, Math.toIntExact(responseBytes));
    }

    private WireResponse set(List<Write> writes, InFlightBytes.Call inFlight) throws RefusedException {
        Result.Applied applied = submit(new Command.Set(writes), Result.Applied.class);
        return WireResponse.set(applied.revision(), durability.getNumber());
    }

    private WireResponse del(RequestDecoder.Get request, InFlightBytes.Call inFlight) throws RefusedException {
        Result.Applied applied = submit(new Command.Del(request.keys()), Result.Applied.class);
        return WireResponse.del(applied.revision(), applied.deletedKeys(), durability.getNumber());
    }

    private <T extends Result> T submit(Command command, Class<T> success) throws RefusedException {
        Result result = log.submit(command);
        if (!success.isInstance(result)) {
            throw new RefusedException(result);
        }
        return success.cast(result);
    }

    // ---- Transactions and revisions ----

    private TxnResponse txn(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException {
        RequestDecoder decoder = decoder(body);
        Txn txn = decoder.txn();
        charge((long) decoder.steps() * STEP_OVERHEAD_BYTES, inFlight);
        Result.Transacted transacted = submit(txn, Result.Transacted.class);
        long responseBytes = ServerMessages.transactedBytes(txn, transacted);
        if (changesNothing(txn)) {
            charge(responseBytes, inFlight);
        } else if (!inFlight.charge(responseBytes)) {
            throw Statuses.carriedOutUnanswered(transacted.revision(), responseBytes)
                    .asRuntimeException();
        }
        return ServerMessages.transacted(txn, transacted, durability);
    }

    /** Whether a transaction only reads, whatever it finds. */
    private static boolean changesNothing(Txn txn) {
        return Stream.concat(txn.then().stream(), txn.otherwise().stream()).allMatch(step -> switch (step) {
            case Op.Get get -> true;
            case Op.Scan scan -> true;
            case Op.Put put -> false;
            case Op.Delete delete -> false;
            case Op.Increment increment -> false;
            case Txn within -> changesNothing(within);
        });
    }

    private CompactResponse compact(InputStream body) throws IOException, RefusedException {
        submit(decoder(body).compact(), Result.Applied.class);
        return CompactResponse.newBuilder().setDurability(durability).build();
    }

    // ---- Leases ----

    private LeaseGrantResponse leaseGrant(InputStream body) throws IOException, RefusedException {
        RequestDecoder.LeaseGrant request = decoder(body).leaseGrant();
        long lease = request.lease();
        if (lease == 0) {
            lease = grantAny(request.ttlMillis());
        } else {
            submit(new Command.Grant(lease, request.ttlMillis()), Result.Applied.class);
        }
        return LeaseGrantResponse.newBuilder()
                .setLease(lease)
                .setTtlMillis(request.ttlMillis())
                .setDurability(durability)
                .build();
    }

    private long grantAny(long ttlMillis) throws RefusedException {
        while (true) {
            long lease = ThreadLocalRandom.current().nextLong(1, Long.MAX_VALUE);
            Result result = log.submit(new Command.Grant(lease, ttlMillis));
            if (result instanceof Result.Applied) {
                return lease;
            }
            if (!(result instanceof Result.LeaseExists)) {
                throw new RefusedException(result);
            }
        }
    }

    private homekv.rpc.proto.LeaseStatus leaseKeepAlive(InputStream body) throws IOException, RefusedException {
        long lease = decoder(body).lease();
        return status(lease, store.keepAlive(lease));
    }

    private homekv.rpc.proto.LeaseStatus leaseTimeLeft(InputStream body) throws IOException, RefusedException {
        long lease = decoder(body).lease();
        return status(lease, store.lease(lease));
    }

    private static homekv.rpc.proto.LeaseStatus status(long lease, LeaseStatus status) throws RefusedException {
        if (status == null) {
            throw new RefusedException(new Result.NoLease(lease));
        }
        return ServerMessages.lease(status);
    }

    private LeaseRevokeResponse leaseRevoke(InputStream body) throws IOException, RefusedException {
        Result result = store.revoke(decoder(body).lease());
        if (!(result instanceof Result.Applied revoked)) {
            throw new RefusedException(result);
        }
        return LeaseRevokeResponse.newBuilder()
                .setDeleted(revoked.deletedKeys())
                .setRevision(revoked.revision())
                .setDurability(durability)
                .build();
    }

    private LeaseListResponse leaseList(InFlightBytes.Call inFlight) throws RefusedException {
        List<LeaseStatus> leases = store.leases();
        requireRoom(ServerMessages.leasesBytes(leases), inFlight);
        return ServerMessages.leases(leases);
    }

    // ---- What is on disk ----

    /** Takes as long as the disk does, and goes on to its end even if nobody waits for that any more. */
    private SnapshotResponse writeSnapshotFile() {
        SnapshotFileInfo file;
        try {
            file = log.writeSnapshotFile();
        } catch (UnsupportedOperationException e) {
            throw Statuses.noSnapshotFiles().asRuntimeException();
        } catch (IOException e) {
            throw Statuses.snapshotFileFailed(e).asRuntimeException();
        }
        return SnapshotResponse.newBuilder()
                .setName(file.name())
                .setRevision(file.revision())
                .setKeys(file.keys())
                .setBytes(file.bytes())
                .build();
    }

    // ---- What the server is and does ----

    private MetricsResponse metrics() {
        Counters counters = store.counters();
        String logFailure = log.failure();
        Runtime runtime = Runtime.getRuntime();
        Metrics metrics = Metrics.newBuilder()
                .setKeysCount((int) Math.min(MAX_UINT32, counters.keys()))
                .setValuesSizeInBytes(counters.valueBytes())
                .setCmdsCount(counters.commands())
                .setKeysCount64(counters.keys())
                .setRevision(counters.revision())
                .setKeysSizeInBytes(counters.keyBytes())
                .setVersionsCount(counters.versions())
                .setStoreSizeInBytes(counters.heldBytes())
                .setStoreLimitInBytes(limits.memoryBytes())
                .setHeapUsedInBytes(runtime.totalMemory() - runtime.freeMemory())
                .setHeapLimitInBytes(runtime.maxMemory())
                .setUptimeMillis((System.nanoTime() - startNanos) / 1_000_000)
                .setGetCmdsCount(counters.gets())
                .setSetCmdsCount(counters.sets())
                .setDelCmdsCount(counters.dels())
                .setTxnCmdsCount(counters.txns())
                .setCompactRevision(counters.compactRevision())
                .setLeasesCount(counters.leases())
                .setWatchesCount(counters.watches())
                .setDurability(durability)
                .setLogFailure(logFailure == null ? "" : logFailure)
                .setProcessCpuMicros(ProcessorTime.micros())
                .build();
        return MetricsResponse.newBuilder().setMetrics(metrics).build();
    }

    private void requireRoom(long responseBytes, InFlightBytes.Call inFlight) throws RefusedException {
        if (responseBytes > limits.responseBytes()) {
            throw new RefusedException(new Result.Refused(Limit.RESPONSE_BYTES, responseBytes, limits.responseBytes()));
        }
        charge(responseBytes, inFlight);
    }

    private void charge(long bytes, InFlightBytes.Call inFlight) throws RefusedException {
        if (!inFlight.charge(bytes)) {
            throw new RefusedException(new Result.Refused(Limit.IN_FLIGHT_BYTES, bytes, limits.inFlightBytes()));
        }
    }
}
