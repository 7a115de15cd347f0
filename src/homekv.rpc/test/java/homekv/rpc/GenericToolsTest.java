package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.proto.HomeKvServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.reflection.v1.ServerReflectionGrpc;
import io.grpc.reflection.v1.ServerReflectionRequest;
import io.grpc.reflection.v1.ServerReflectionResponse;
import io.grpc.stub.StreamObserver;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Tools that know gRPC and not HomeKV find their way: health and reflection. */
class GenericToolsTest {
    @Test
    void healthIsToldForTheServerAndForTheService() throws Exception {
        try (Harness kv = new Harness()) {
            var health = HealthGrpc.newBlockingStub(kv.channel());
            for (String service : List.of("", HomeKvServiceGrpc.SERVICE_NAME)) {
                var request = HealthCheckRequest.newBuilder().setService(service);
                assertEquals(
                        ServingStatus.SERVING, health.check(request.build()).getStatus());
            }
            var unknown = HealthCheckRequest.newBuilder().setService("nobody").build();
            assertEquals(
                    Status.Code.NOT_FOUND,
                    Harness.status(() -> health.check(unknown)).getCode());
        }
    }

    @Test
    void reflectionTellsTheServicesAndTheFileOfOne() throws Exception {
        try (Harness kv = new Harness()) {
            ManagedChannel channel = kv.channel();
            BlockingQueue<Object> answers = new LinkedBlockingQueue<>();
            StreamObserver<ServerReflectionRequest> ask =
                    ServerReflectionGrpc.newStub(channel).serverReflectionInfo(collect(answers));
            ask.onNext(ServerReflectionRequest.newBuilder().setListServices("").build());
            assertEquals(
                    List.of(
                            "grpc.health.v1.Health",
                            "grpc.reflection.v1.ServerReflection",
                            "grpc.reflection.v1alpha.ServerReflection",
                            HomeKvServiceGrpc.SERVICE_NAME),
                    ((ServerReflectionResponse) take(answers))
                            .getListServicesResponse().getServiceList().stream()
                                    .map(service -> service.getName())
                                    .sorted()
                                    .toList());
            ask.onNext(ServerReflectionRequest.newBuilder()
                    .setFileContainingSymbol(HomeKvServiceGrpc.SERVICE_NAME)
                    .build());
            assertNotEquals(
                    0,
                    ((ServerReflectionResponse) take(answers))
                            .getFileDescriptorResponse()
                            .getFileDescriptorProtoCount());
            ask.onCompleted();
            assertEquals("completed", take(answers));
        }
    }

    private static <T> StreamObserver<T> collect(BlockingQueue<Object> answers) {
        return new StreamObserver<>() {
            @Override
            public void onNext(T value) {
                answers.add(value);
            }

            @Override
            public void onError(Throwable failure) {
                answers.add(Status.fromThrowable(failure));
            }

            @Override
            public void onCompleted() {
                answers.add("completed");
            }
        };
    }

    private static Object take(BlockingQueue<Object> answers) throws InterruptedException {
        Object answer = answers.poll(Harness.HANG_SECONDS, TimeUnit.SECONDS);
        assertTrue(answer != null, "no answer");
        return answer;
    }
}
