package homekv.bench;

import com.google.protobuf.ByteString;
import com.google.protobuf.Empty;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.MetricsResponse;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import io.grpc.Codec;
import io.grpc.DecompressorRegistry;
import io.grpc.Server;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.concurrent.TimeUnit;

/**
 * What gRPC costs without a store: the same messages over the same transport as HomeKV's, answered by the transport's own
 * threads. A get is answered with the value of the last set for each key, everything else with success.
 *
 * <p>What a call costs HomeKV beside what it costs here is HomeKV's: its store, a thread for each call, its limits.
 */
public final class EchoServer extends HomeKvServiceGrpc.HomeKvServiceImplBase {
    private final long startNanos = System.nanoTime();
    private volatile ByteString value = ByteString.EMPTY;

    private EchoServer() {}

    /**
     * Serves on the loopback address, prints where, and ends with its standard input.
     *
     * @param args how many event loops it has; 0 for gRPC's default. Then, a port: it serves there until it is killed
     */
    public static void main(String[] args) throws IOException, InterruptedException {
        Server server = server(Integer.parseInt(args[0]), args.length > 1 ? Integer.parseInt(args[1]) : 0);
        System.out.println("the echo answers at 127.0.0.1:" + server.getPort());
        if (args.length > 1) {
            server.awaitTermination();
        }
        while (System.in.read() >= 0) {}
        server.shutdownNow();
    }

    /** With the settings of HomeKvServer, but for the account that it keeps of the bytes in flight. */
    private static Server server(int eventLoops, int port) throws IOException {
        NettyServerBuilder builder =
                NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port));
        if (eventLoops > 0) {
            var loops = new MultiThreadIoEventLoopGroup(eventLoops, NioIoHandler.newFactory());
            builder.bossEventLoopGroup(loops).workerEventLoopGroup(loops).channelType(NioServerSocketChannel.class);
        }
        return builder.directExecutor()
                .addService(new EchoServer())
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .maxConcurrentCallsPerConnection(16_384)
                .decompressorRegistry(DecompressorRegistry.emptyInstance().with(Codec.Identity.NONE, false))
                .keepAliveTime(60, TimeUnit.SECONDS)
                .keepAliveTimeout(20, TimeUnit.SECONDS)
                .permitKeepAliveTime(5, TimeUnit.SECONDS)
                .permitKeepAliveWithoutCalls(true)
                .build()
                .start();
    }

    @Override
    public void get(GetRequest request, StreamObserver<GetResponse> response) {
        GetResponse.Builder found = GetResponse.newBuilder().setRevision(1);
        for (int i = 0; i < request.getKeysCount(); i++) {
            found.addRecords(Record.newBuilder().setKey(request.getKeys(i)).setValue(value));
        }
        answer(response, found.build());
    }

    @Override
    public void set(SetRequest request, StreamObserver<SetResponse> response) {
        ByteString last = request.getRecords(request.getRecordsCount() - 1).getValue();
        if (last.size() != value.size()) {
            value = last;
        }
        answer(response, SetResponse.newBuilder().setSucc(true).setRevision(1).build());
    }

    @Override
    public void del(DelRequest request, StreamObserver<DelResponse> response) {
        answer(response, DelResponse.newBuilder().setSucc(true).build());
    }

    @Override
    public void metrics(Empty request, StreamObserver<MetricsResponse> response) {
        long cpuNanos =
                ProcessHandle.current().info().totalCpuDuration().orElseThrow().toNanos();
        Metrics metrics = Metrics.newBuilder()
                .setProcessCpuMicros(cpuNanos / 1_000)
                .setUptimeMillis((System.nanoTime() - startNanos) / 1_000_000)
                .build();
        answer(response, MetricsResponse.newBuilder().setMetrics(metrics).build());
    }

    private static <T> void answer(StreamObserver<T> response, T message) {
        response.onNext(message);
        response.onCompleted();
    }
}
