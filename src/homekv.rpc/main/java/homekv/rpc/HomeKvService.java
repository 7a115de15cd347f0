package homekv.rpc;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.UnsafeByteOperations;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.MetricsResponse;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Counters;
import homekv.storage.Entry;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MvccStore;
import homekv.storage.Reading;
import homekv.storage.Result;
import homekv.storage.Write;
import io.grpc.MethodDescriptor;
import io.grpc.ServerMethodDefinition;
import io.grpc.ServerServiceDefinition;
import io.grpc.ServiceDescriptor;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;

/** The methods of HomeKvService: each reads its request, talks to the store or its log, and builds the response. */
final class HomeKvService {
    static final String NAME = HomeKvServiceGrpc.SERVICE_NAME;

    private static final long MAX_UINT32 = (1L << 32) - 1;

    /** What a key costs in heap beside its own bytes and its value's, from when it is read until its call ends. */
    static final int KEY_OVERHEAD_BYTES = 64;

    private final MvccStore store;
    private final CommandLog log;
    private final Limits limits;
    private final long startNanos = System.nanoTime();

    HomeKvService(MvccStore store, CommandLog log) {
        this.store = store;
        this.log = log;
        this.limits = store.limits();
    }

    /** What a gRPC server needs to know of the service: the methods of the generated code, request bodies unread. */
    ServerServiceDefinition definition() {
        List<ServerMethodDefinition<InputStream, ?>> methods = List.of(
                unread(HomeKvServiceGrpc.getGetMethod(), (body, inFlight) -> get(keys(body, inFlight), inFlight)),
                unread(HomeKvServiceGrpc.getSetMethod(), (body, inFlight) -> set(writes(body, inFlight))),
                unread(HomeKvServiceGrpc.getDelMethod(), (body, inFlight) -> del(keys(body, inFlight))),
                unread(HomeKvServiceGrpc.getMetricsMethod(), (body, inFlight) -> metrics()));
        ServiceDescriptor generated = HomeKvServiceGrpc.getServiceDescriptor();
        ServiceDescriptor.Builder descriptor =
                ServiceDescriptor.newBuilder(generated.getName()).setSchemaDescriptor(generated.getSchemaDescriptor());
        methods.forEach(method -> descriptor.addMethod(method.getMethodDescriptor()));
        ServerServiceDefinition.Builder definition = ServerServiceDefinition.builder(descriptor.build());
        methods.forEach(definition::addMethod);
        return definition.build();
    }

    private <ResponseT> ServerMethodDefinition<InputStream, ResponseT> unread(
            MethodDescriptor<?, ResponseT> method, UnaryCall.Method<ResponseT> answer) {
        return ServerMethodDefinition.create(
                method.toBuilder(UnaryCall.UNREAD, method.getResponseMarshaller())
                        .build(),
                (call, headers) -> new UnaryCall<>(call, limits, answer));
    }

    private List<Bytes> keys(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException {
        List<Bytes> keys = new RequestDecoder(body, limits).keys();
        charge((long) keys.size() * KEY_OVERHEAD_BYTES, inFlight);
        return keys;
    }

    private List<Write> writes(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException {
        List<Write> writes = new RequestDecoder(body, limits).writes();
        charge((long) writes.size() * KEY_OVERHEAD_BYTES, inFlight);
        return writes;
    }

    private GetResponse get(List<Bytes> keys, InFlightBytes.Call inFlight) throws RefusedException {
        Reading reading = store.read(keys);
        requireRoom(responseBytes(keys, reading), inFlight);
        store.countGet();
        GetResponse.Builder response = GetResponse.newBuilder().setRevision(reading.revision());
        for (int i = 0; i < keys.size(); i++) {
            Record.Builder record = Record.newBuilder().setKey(unsafeWrap(keys.get(i)));
            Entry entry = reading.entries().get(i);
            if (entry != null) {
                record.setValue(unsafeWrap(entry.value()));
            }
            response.addRecords(record);
        }
        return response.build();
    }

    private SetResponse set(List<Write> writes) throws RefusedException {
        Result.Applied applied = submit(new Command.Set(writes));
        return SetResponse.newBuilder()
                .setSucc(true)
                .setRevision(applied.revision())
                .build();
    }

    private DelResponse del(List<Bytes> keys) throws RefusedException {
        Result.Applied applied = submit(new Command.Del(keys));
        return DelResponse.newBuilder()
                .setSucc(true)
                .setRevision(applied.revision())
                .setDeleted(applied.deletedKeys())
                .build();
    }

    private Result.Applied submit(Command command) throws RefusedException {
        return switch (log.submit(command)) {
            case Result.Applied applied -> applied;
            case Result.Refused refused -> throw new RefusedException(refused);
        };
    }

    private MetricsResponse metrics() {
        Counters counters = store.counters();
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

    /** The size of the response on the wire, before it is built. */
    private static long responseBytes(List<Bytes> keys, Reading reading) {
        long bytes = 1 + CodedOutputStream.computeUInt64SizeNoTag(reading.revision());
        for (int i = 0; i < keys.size(); i++) {
            long recordBytes = fieldBytes(keys.get(i).length());
            Entry entry = reading.entries().get(i);
            if (entry != null) {
                recordBytes += fieldBytes(entry.value().length());
            }
            bytes += fieldBytes(recordBytes);
        }
        return bytes;
    }

    /** A length-delimited field with a number below 16: tag, length and content. */
    private static long fieldBytes(long contentBytes) {
        return 1 + CodedOutputStream.computeUInt64SizeNoTag(contentBytes) + contentBytes;
    }

    private static ByteString unsafeWrap(Bytes bytes) {
        return UnsafeByteOperations.unsafeWrap(bytes.unsafeArray());
    }
}
