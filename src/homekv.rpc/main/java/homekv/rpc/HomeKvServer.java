package homekv.rpc;

import homekv.storage.CommandLog;
import homekv.storage.Limit;
import homekv.storage.MvccStore;
import io.grpc.Codec;
import io.grpc.DecompressorRegistry;
import io.grpc.Server;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.protobuf.services.ProtoReflectionService;
import io.grpc.protobuf.services.ProtoReflectionServiceV1;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;

/**
 * A gRPC server of a store: HomeKvService, the standard health service and server reflection, in plain text, without
 * authentication.
 *
 * <p>Serves from construction until {@link #close}; any thread may call any method. Every call runs on a virtual
 * thread of its own; short ones cost less where the JVM was started with {@code --add-opens
 * java.base/java.lang=homekv.rpc}, which lets an event loop run their threads itself. The limits are those of the store; a
 * request over one of them is answered with a status that says so, before anything is changed.
 *
 * <p>The store and its log stay the caller's, who closes them after the server.
 */
public final class HomeKvServer implements AutoCloseable {
    /**
     * What the health service says of writes: SERVING, or NOT_SERVING from the moment on that the log has stopped for good.
     * Reads go on then, and so does the health of the server and of its service.
     */
    public static final String WRITES = HomeKvService.NAME + ".writes";

    /**
     * How many calls one connection may have under way; more wait in the client. Enough for ten thousand watches and the
     * calls beside them, since a watch that waits takes a few KiB and no thread of the platform's. It protects a client
     * from itself rather than the server from clients, who may open more connections: what takes memory is charged
     * wherever it comes from.
     */
    private static final int CALLS_PER_CONNECTION = 16_384;

    /** A connection that has been silent this long is asked whether its client is still there. */
    private static final long KEEP_ALIVE_SECONDS = 60;

    private static final long KEEP_ALIVE_ANSWER_SECONDS = 20;

    private static final long CLIENT_KEEP_ALIVE_SECONDS = 5;

    private final HealthStatusManager health = new HealthStatusManager();
    private final InFlightBytes inFlight;
    private final HomeKvService service;
    private final VirtualThreadCalls otherCalls = new VirtualThreadCalls();
    private final AtomicBoolean stopping = new AtomicBoolean();
    private final AtomicBoolean closing = new AtomicBoolean();

    /** As many as there are processors: each has its share of the connections. */
    private final MultiThreadIoEventLoopGroup loops;

    private final Server server;

    /**
     * Listens at {@code address} and serves; port 0 picks a free one.
     *
     * @throws IOException if nothing can listen there: the port is taken, the address is not this machine's
     */
    public HomeKvServer(InetSocketAddress address, MvccStore store, CommandLog log) throws IOException {
        this(address, store, log, CarriedThreads::of, Thread.ofVirtual().factory());
    }

    /**
     * The same with threads of the caller's for the calls of HomeKvService: brief ones get them from what {@code briefThreads}
     * makes of an event loop, all others from {@code threads}.
     */
    @SuppressWarnings("deprecation") // Many generic tools still ask for the older form of reflection.
    HomeKvServer(
            InetSocketAddress address,
            MvccStore store,
            CommandLog log,
            Function<Executor, ThreadFactory> briefThreads,
            ThreadFactory threads)
            throws IOException {
        inFlight = new InFlightBytes(store.limits());
        service = new HomeKvService(store, log);
        loops = new MultiThreadIoEventLoopGroup(
                Runtime.getRuntime().availableProcessors(),
                new DefaultThreadFactory("homekv-io", true),
                CallLoop.over(
                        NioIoHandler.newFactory(),
                        briefThreads,
                        threads,
                        CarriedThreads.supported() ? store::fetch : keys -> {}));
        server = NettyServerBuilder.forAddress(address)
                .channelType(NioServerSocketChannel.class)
                .bossEventLoopGroup(loops)
                .workerEventLoopGroup(loops)
                // Callbacks run on the transport's threads and only signal to the threads of the calls.
                .directExecutor()
                .addService(service.definition())
                .addService(otherCalls.wrap(health.getHealthService()))
                .addService(otherCalls.wrap(ProtoReflectionServiceV1.newInstance()))
                .addService(otherCalls.wrap(ProtoReflectionService.newInstance()))
                .addStreamTracerFactory(inFlight)
                // InFlightBytes holds messages against our own limits, which are lower and name a flag.
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .maxConcurrentCallsPerConnection(CALLS_PER_CONNECTION)
                // A compressed request could unpack to any size, and no HomeKV client sends one.
                .decompressorRegistry(DecompressorRegistry.emptyInstance().with(Codec.Identity.NONE, false))
                .keepAliveTime(KEEP_ALIVE_SECONDS, TimeUnit.SECONDS)
                .keepAliveTimeout(KEEP_ALIVE_ANSWER_SECONDS, TimeUnit.SECONDS)
                .permitKeepAliveTime(CLIENT_KEEP_ALIVE_SECONDS, TimeUnit.SECONDS)
                .permitKeepAliveWithoutCalls(true)
                .build();
        health.setStatus(HomeKvService.NAME, ServingStatus.SERVING);
        health.setStatus(WRITES, ServingStatus.SERVING);
        log.onFailure(() -> health.setStatus(WRITES, ServingStatus.NOT_SERVING));
        try {
            server.start();
        } catch (Throwable e) {
            loops.shutdownGracefully();
            throw e;
        }
    }

    /** Where the server listens, with the port that was picked. */
    public InetSocketAddress address() {
        return (InetSocketAddress) server.getListenSockets().get(0);
    }

    /** The server's command line flag for a limit, as its refusals name it. */
    public static String flag(Limit limit) {
        return Statuses.flag(limit);
    }

    /** What the requests and responses of all calls under way are charged now. */
    long bytesInFlight() {
        return inFlight.reserved();
    }

    /** Waits until the server has been stopped or closed. */
    public void awaitStop() throws InterruptedException {
        server.awaitTermination();
    }

    /**
     * Takes no more connections and calls, says NOT_SERVING to who watches its health, ends watches, and waits until the
     * other calls under way are finished or {@code patience} is over; then ends what is left. A call that is ended may or may not have
     * been carried out. Returns whether all calls were finished.
     */
    public boolean stop(Duration patience) throws InterruptedException {
        if (stopping.compareAndSet(false, true)) {
            health.enterTerminalState();
        }
        server.shutdown();
        otherCalls.end(Statuses.stopping());
        service.endWatches(Statuses.stopping());
        boolean finished = server.awaitTermination(patience.toNanos(), TimeUnit.NANOSECONDS);
        close();
        return finished;
    }

    /** Ends all calls and connections at once. Closing again does nothing. */
    @Override
    public void close() {
        server.shutdownNow();
        if (closing.compareAndSet(false, true)) {
            Thread.startVirtualThread(this::endLoops);
        }
    }

    /** What the calls under way have still to send, if only to be told that nobody listens, is sent by the loops. */
    private void endLoops() {
        try {
            server.awaitTermination();
        } catch (InterruptedException e) {
            throw new AssertionError("nobody knows this thread", e);
        }
        loops.shutdownGracefully();
    }
}
