package homekv.rpc;

import static homekv.rpc.Harness.del;
import static homekv.rpc.Harness.delete;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.metrics;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.DescriptorProtos.DescriptorProto;
import com.google.protobuf.DescriptorProtos.FieldDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.OneofDescriptorProto;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.Empty;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvProto;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.storage.Limit;
import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

/** What the clients of the original HomeKV rely on. */
class WireContractTest {
    /** Message, number, name, type, label, as the original declares them. */
    private static final String[][] FIELDS = {
        {"Record", "1", "key", "string", ""},
        {"Record", "2", "value", "bytes", "optional"},
        {"Metrics", "1", "keys_count", "uint32", ""},
        {"Metrics", "2", "values_size_in_bytes", "uint64", ""},
        {"Metrics", "3", "cmds_count", "uint64", ""},
        {"GetRequest", "1", "keys", "string", "repeated"},
        {"GetResponse", "1", "records", "Record", "repeated"},
        {"SetRequest", "1", "records", "Record", "repeated"},
        {"SetResponse", "1", "succ", "bool", ""},
        {"DelRequest", "1", "keys", "string", "repeated"},
        {"DelResponse", "1", "succ", "bool", ""},
        {"MetricsResponse", "1", "metrics", "Metrics", ""},
    };

    private static final String[][] METHODS = {
        {"Get", "homekv_service.GetRequest", "homekv_service.GetResponse"},
        {"Set", "homekv_service.SetRequest", "homekv_service.SetResponse"},
        {"Del", "homekv_service.DelRequest", "homekv_service.DelResponse"},
        {"Metrics", "google.protobuf.Empty", "homekv_service.MetricsResponse"},
    };

    // ---- The descriptor ----

    @Test
    void everyMessageAndFieldOfTheOriginalIsThereWithItsNumberNameTypeAndLabel() {
        FileDescriptor file = HomeKvProto.getDescriptor();
        assertEquals("homekv_service", file.getPackage());
        assertEquals("proto3", file.toProto().getSyntax());
        for (String[] row : FIELDS) {
            String what = String.join(" ", row);
            FieldDescriptor field = file.findMessageTypeByName(row[0]).findFieldByNumber(Integer.parseInt(row[1]));
            assertEquals(row[2], field.getName(), what);
            boolean key = row[3].equals("string");
            String type = field.getType() == FieldDescriptor.Type.MESSAGE
                    ? field.getMessageType().getName()
                    : field.getType().name().toLowerCase(java.util.Locale.ROOT);
            assertEquals(key ? "bytes" : row[3], type, what);
            assertEquals(row[4].equals("repeated"), field.isRepeated(), what);
            assertEquals(row[4].equals("optional"), field.toProto().getProto3Optional(), what);
        }
    }

    /**
     * A client would not find them, or take them for something else. What an old client leaves out of a request means
     * what it has always meant; what a new client finds in an answer has to be told from what an old server leaves out.
     */
    @Test
    void whatIsNewInAnOldMessageCanBeLeftOutAndHasANumberOfItsOwn() {
        Set<String> originals = OldClient.messages();
        for (Descriptor message : HomeKvProto.getDescriptor().getMessageTypes()) {
            for (FieldDescriptor field : message.getFields()) {
                boolean original = java.util.Arrays.stream(FIELDS)
                        .anyMatch(row ->
                                row[0].equals(message.getName()) && row[1].equals(Integer.toString(field.getNumber())));
                boolean request = message.getName().endsWith("Request");
                assertTrue(
                        !originals.contains(message.getName())
                                || original
                                || !field.isRepeated()
                                        && (request || field.toProto().getProto3Optional()),
                        field.getFullName());
            }
        }
    }

    @Test
    void everyMethodOfTheOriginalIsThereUnderItsFullName() {
        ServiceDescriptor service = HomeKvProto.getDescriptor().findServiceByName("HomeKvService");
        assertEquals("homekv_service.HomeKvService", service.getFullName());
        assertEquals("homekv_service.HomeKvService", HomeKvService.NAME);
        for (String[] row : METHODS) {
            MethodDescriptor method = service.findMethodByName(row[0]);
            assertEquals(row[1], method.getInputType().getFullName());
            assertEquals(row[2], method.getOutputType().getFullName());
            assertFalse(method.isClientStreaming() || method.isServerStreaming(), row[0]);
        }
    }

    // ---- A client of the original ----

    /** A client that knows nothing but the tables above, where keys are text. */
    private static final class OldClient {
        private final FileDescriptor file;
        private final ManagedChannel channel;

        OldClient(ManagedChannel channel) throws Exception {
            this.channel = channel;
            FileDescriptorProto.Builder proto = FileDescriptorProto.newBuilder()
                    .setName("original.proto")
                    .setPackage("homekv_service")
                    .setSyntax("proto3");
            for (String message : messages()) {
                DescriptorProto.Builder type = DescriptorProto.newBuilder().setName(message);
                for (String[] row : FIELDS) {
                    if (row[0].equals(message)) {
                        type.addField(field(row, type));
                    }
                }
                proto.addMessageType(type);
            }
            file = FileDescriptor.buildFrom(proto.build(), new FileDescriptor[0]);
        }

        private static Set<String> messages() {
            Set<String> messages = new TreeSet<>();
            for (String[] row : FIELDS) {
                messages.add(row[0]);
            }
            return messages;
        }

        private static FieldDescriptorProto field(String[] row, DescriptorProto.Builder message) {
            FieldDescriptorProto.Builder field = FieldDescriptorProto.newBuilder()
                    .setNumber(Integer.parseInt(row[1]))
                    .setName(row[2]);
            switch (row[3]) {
                case "string" -> field.setType(FieldDescriptorProto.Type.TYPE_STRING);
                case "bytes" -> field.setType(FieldDescriptorProto.Type.TYPE_BYTES);
                case "bool" -> field.setType(FieldDescriptorProto.Type.TYPE_BOOL);
                case "uint32" -> field.setType(FieldDescriptorProto.Type.TYPE_UINT32);
                case "uint64" -> field.setType(FieldDescriptorProto.Type.TYPE_UINT64);
                default ->
                    field.setType(FieldDescriptorProto.Type.TYPE_MESSAGE).setTypeName(".homekv_service." + row[3]);
            }
            if (row[4].equals("repeated")) {
                field.setLabel(FieldDescriptorProto.Label.LABEL_REPEATED);
            } else {
                field.setLabel(FieldDescriptorProto.Label.LABEL_OPTIONAL);
            }
            if (row[4].equals("optional")) {
                field.setProto3Optional(true).setOneofIndex(message.getOneofDeclCount());
                message.addOneofDecl(OneofDescriptorProto.newBuilder().setName("_" + row[2]));
            }
            return field.build();
        }

        DynamicMessage.Builder message(String name) {
            return DynamicMessage.newBuilder(file.findMessageTypeByName(name));
        }

        DynamicMessage record(String key, String value) {
            DynamicMessage.Builder record = message("Record");
            Descriptor type = record.getDescriptorForType();
            record.setField(type.findFieldByName("key"), key);
            if (value != null) {
                record.setField(type.findFieldByName("value"), ByteString.copyFromUtf8(value));
            }
            return record.build();
        }

        DynamicMessage call(String method, DynamicMessage.Builder request, String responseType, List<?> elements) {
            for (Object element : elements) {
                request.addRepeatedField(request.getDescriptorForType().findFieldByNumber(1), element);
            }
            return ClientCalls.blockingUnaryCall(
                    channel,
                    io.grpc.MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder()
                            .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
                            .setFullMethodName("homekv_service.HomeKvService/" + method)
                            .setRequestMarshaller(ProtoUtils.marshaller(request.getDefaultInstanceForType()))
                            .setResponseMarshaller(
                                    ProtoUtils.marshaller(message(responseType).build()))
                            .build(),
                    CallOptions.DEFAULT,
                    request.build());
        }

        static Object field(DynamicMessage message, String name) {
            return message.getField(message.getDescriptorForType().findFieldByName(name));
        }

        /** {@code key=value}, or {@code key} alone where there is no value. */
        List<String> get(String... keys) {
            List<String> records = new ArrayList<>();
            DynamicMessage response = call("Get", message("GetRequest"), "GetResponse", List.of(keys));
            for (Object element : (List<?>) field(response, "records")) {
                DynamicMessage record = (DynamicMessage) element;
                boolean found = record.hasField(record.getDescriptorForType().findFieldByName("value"));
                records.add(field(record, "key")
                        + (found ? "=" + ((ByteString) field(record, "value")).toStringUtf8() : ""));
            }
            return records;
        }
    }

    @Test
    void aClientWhoseKeysAreTextGetsTheAnswersOfTheOriginal() throws Exception {
        try (Harness kv = new Harness()) {
            OldClient old = new OldClient(kv.channel());
            List<DynamicMessage> records = List.of(
                    old.record("a", "1"), old.record("Biber 🦫", "2"), old.record("e", ""), old.record("\0", "nul"));
            DynamicMessage set = old.call("Set", old.message("SetRequest"), "SetResponse", records);
            assertEquals(true, OldClient.field(set, "succ"));
            assertEquals(
                    List.of("Biber 🦫=2", "none", "a=1", "a=1", "e=", "\0=nul"),
                    old.get("Biber 🦫", "none", "a", "a", "e", "\0"));
            DynamicMessage del = old.call("Del", old.message("DelRequest"), "DelResponse", List.of("a", "none"));
            assertEquals(true, OldClient.field(del, "succ"));
            assertEquals(List.of("a"), old.get("a"));
            DynamicMessage answer = ClientCalls.blockingUnaryCall(
                    old.channel,
                    io.grpc.MethodDescriptor.<Empty, DynamicMessage>newBuilder()
                            .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
                            .setFullMethodName("homekv_service.HomeKvService/Metrics")
                            .setRequestMarshaller(ProtoUtils.marshaller(Empty.getDefaultInstance()))
                            .setResponseMarshaller(ProtoUtils.marshaller(
                                    old.message("MetricsResponse").build()))
                            .build(),
                    CallOptions.DEFAULT,
                    Empty.getDefaultInstance());
            DynamicMessage metrics = (DynamicMessage) OldClient.field(answer, "metrics");
            assertEquals(3, OldClient.field(metrics, "keys_count"));
            assertEquals(4L, OldClient.field(metrics, "values_size_in_bytes"));
            assertEquals(4L, OldClient.field(metrics, "cmds_count"));
        }
    }

    /** The bytes are written out here: neither end's generated code can be wrong in the same way. */
    @Test
    void theBytesOnTheWireAreThoseOfTheOriginal() throws Exception {
        try (Harness kv = new Harness()) {
            RawHttp2 raw = kv.raw();
            byte[] set = {0x0a, 6, 0x0a, 1, 'k', 0x12, 1, 'v', 0x0a, 5, 0x0a, 1, 'e', 0x12, 0};
            assertEquals(0, raw.call("homekv_service.HomeKvService/Set", set).status());
            byte[] get = {0x0a, 1, 'k', 0x0a, 1, 'n', 0x0a, 1, 'e'};
            RawHttp2.Stream answer = raw.call("homekv_service.HomeKvService/Get", get);
            byte[] expected = {
                0x0a, 6, 0x0a, 1, 'k', 0x12, 1, 'v', 0x0a, 3, 0x0a, 1, 'n', 0x0a, 5, 0x0a, 1, 'e', 0x12, 0, 0x10, 1
            };
            assertEquals(
                    ByteString.copyFrom(RawHttp2.message(expected)), ByteString.copyFrom(answer.body.toByteArray()));
        }
    }

    // ---- Get, Set, Del ----

    @Test
    void aGetAnswersEveryKeyInOrderAbsentOnesWithoutAndEmptyOnesWithAValue() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            assertTrue(stub.set(set(put("a", "1"), put("e", ""))).getSucc());
            GetResponse response = stub.get(get("e", "x", "a", "x", "e"));
            assertEquals(
                    List.of(put("e", ""), delete("x"), put("a", "1"), delete("x"), put("e", "")),
                    response.getRecordsList());
            assertTrue(response.getRecords(0).hasValue());
            assertEquals(1, response.getRevision());
        }
    }

    @Test
    void aGetWithoutKeysAnswersWithoutRecordsButWithTheRevision() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            assertEquals(GetResponse.newBuilder().setRevision(0).build(), stub.get(get()));
            stub.set(set(put("a", "1")));
            assertEquals(GetResponse.newBuilder().setRevision(1).build(), stub.get(get()));
            assertEquals(2, stub.set(set(put("a", "1"))).getRevision());
            assertEquals(2, stub.set(set()).getRevision());
            assertEquals(2, stub.del(del()).getRevision());
        }
    }

    @Test
    void whereAKeyStandsTwiceInASetTheLastOneWins() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(
                    put("k", "1"), put("gone", "1"), put("k", "2"), delete("gone"), delete("back"), put("back", "3")));
            assertEquals(
                    List.of(put("k", "2"), delete("gone"), put("back", "3")),
                    stub.get(get("k", "gone", "back")).getRecordsList());
            assertEquals(1, stub.get(get()).getRevision());
        }
    }

    @Test
    void aRecordWithoutAValueDeletesItsKeyInTheSameRevisionAsTheRest() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("from", "5")));
            assertEquals(2, stub.set(set(delete("from"), put("to", "5"))).getRevision());
            assertEquals(
                    List.of(delete("from"), put("to", "5")),
                    stub.get(get("from", "to")).getRecordsList());
            // Deletions of what is not there change nothing.
            assertEquals(2, stub.set(set(delete("from"), delete("never"))).getRevision());
        }
    }

    @Test
    void aDelCountsTheKeysThatWereThereOnceEach() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1"), put("b", "1"), put("c", "1")));
            var deleted = stub.del(del("a", "none", "a", "b"));
            assertTrue(deleted.getSucc());
            assertEquals(2, deleted.getDeleted());
            assertEquals(2, deleted.getRevision());
            var nothing = stub.del(del("a", "none"));
            assertTrue(nothing.getSucc() && nothing.hasDeleted());
            assertEquals(0, nothing.getDeleted());
            assertEquals(2, nothing.getRevision());
            assertEquals(
                    List.of(delete("a"), delete("b"), put("c", "1")),
                    stub.get(get("a", "b", "c")).getRecordsList());
        }
    }

    @Test
    void anyByteStringIsAKey() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            SetRequest.Builder all = SetRequest.newBuilder();
            for (int b = 0; b < 256; b++) {
                ByteString key = ByteString.copyFrom(new byte[] {(byte) b});
                all.addRecords(Record.newBuilder().setKey(key).setValue(key));
            }
            stub.set(all.build());
            var keys = homekv.rpc.proto.GetRequest.newBuilder();
            all.getRecordsList().forEach(record -> keys.addKeys(record.getKey()));
            assertEquals(all.getRecordsList(), stub.get(keys.build()).getRecordsList());
        }
    }

    // ---- Metrics ----

    @Test
    void theThreeMetricsOfTheOriginalAreExactAndRefusedCallsAndMetricsAreNotCounted() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.VALUE_BYTES, 10).with(Limit.RESPONSE_BYTES, 60))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            long sets = 0;
            long gets = 0;
            long dels = 0;
            stub.set(set(put("a", "12345"), put("b", "1")));
            stub.set(set(put("a", "123"))); // Overwritten: the original forgets to take the old size away.
            stub.set(set(put("b", ""), put("c", "1234567890")));
            stub.set(set(delete("none")));
            sets += 4;
            stub.get(get("a", "none"));
            stub.get(get());
            gets += 2;
            stub.del(del("none"));
            dels += 1;
            Harness.status(() -> stub.set(set(put("a", "1"), put("d", "12345678901"))));
            Harness.status(() -> stub.set(set(put("", "1"))));
            Harness.status(() -> stub.del(del("a", "")));
            Harness.status(() -> stub.get(get("")));
            Harness.status(() -> stub.get(get("c", "c", "c", "c", "c")));
            metrics(stub);
            Metrics metrics = metrics(stub);
            assertEquals(3, metrics.getKeysCount());
            assertEquals(13, metrics.getValuesSizeInBytes());
            assertEquals(sets + gets + dels, metrics.getCmdsCount());
            assertEquals(sets, metrics.getSetCmdsCount());
            assertEquals(gets, metrics.getGetCmdsCount());
            assertEquals(dels, metrics.getDelCmdsCount());

            stub.del(del("a", "c"));
            metrics = metrics(stub);
            assertEquals(1, metrics.getKeysCount());
            assertEquals(0, metrics.getValuesSizeInBytes());
            assertEquals(sets + gets + dels + 1, metrics.getCmdsCount());
        }
    }

    @Test
    void theNewMetricsAreAllThereAndMean() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.HISTORY_BYTES, 0))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (FieldDescriptor field : Metrics.getDescriptor().getFields()) {
                assertTrue(!field.hasPresence() || metrics(stub).hasField(field), field.getFullName());
            }
            stub.set(set(put("key", "1"), put("k", "2")));
            stub.set(set(put("key", "3")));
            Metrics metrics = metrics(stub);
            assertEquals(2, metrics.getKeysCount64());
            assertEquals(2, metrics.getRevision());
            assertEquals(4, metrics.getKeysSizeInBytes());
            assertEquals(2, metrics.getVersionsCount());
            assertTrue(metrics.getStoreSizeInBytes() > 6);
            assertEquals(Harness.ROOMY.memoryBytes(), metrics.getStoreLimitInBytes());
            assertTrue(metrics.getHeapUsedInBytes() > 0);
            assertEquals(Runtime.getRuntime().maxMemory(), metrics.getHeapLimitInBytes());
            long uptimeMillis = metrics.getUptimeMillis();
            Harness.await("time passes", () -> metrics(stub).getUptimeMillis() > uptimeMillis);
            try (var snapshot = kv.store.snapshot()) {
                stub.set(set(put("key", "4")));
                assertEquals(3, metrics(stub).getVersionsCount());
            }
        }
    }
}
