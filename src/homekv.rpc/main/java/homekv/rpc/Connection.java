package homekv.rpc;

import com.google.protobuf.InvalidProtocolBufferException;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.OutOfRange;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioSocketChannel;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.UnknownHostException;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * The client's end: one channel to one server, what is called over it, and what its statuses mean to a caller.
 *
 * <p>Any thread may use it. What only reads is called again when the server could not be reached; a write never is, since
 * only its caller knows whether it may be done twice.
 */
final class Connection implements AutoCloseable {
    private static final Metadata.Key<byte[]> OUT_OF_RANGE =
            Metadata.Key.of("homekv-out-of-range-bin", Metadata.BINARY_BYTE_MARSHALLER);

    private static final long CLOSE_PATIENCE_MILLIS = 1_000;

    /** A connection that has been silent this long while a call waits is asked whether its server is still there. */
    private static final long KEEP_ALIVE_SECONDS = 30;

    /** After so many attempts in a row that brought nothing, a read is given up. */
    static final int MAX_READ_ATTEMPTS = 4;

    private static final long FIRST_PAUSE_MILLIS = 40;
    private static final int MAX_PAUSE_SHIFT = 5;

    private final String target;
    private final long timeoutNanos;
    private final MultiThreadIoEventLoopGroup eventLoop;
    private final ManagedChannel channel;

    /** What calls go through: the channel, or a way to it on which they stay with one store. */
    private final Channel calls;

    private final HomeKvServiceBlockingStub stub;

    /** Does not connect yet. */
    Connection(String host, int port, Duration timeout) {
        this.target = requireHost(Addresses.hostAndPort(host, port));
        this.timeoutNanos = TimeUnit.NANOSECONDS.convert(timeout);
        this.eventLoop = new MultiThreadIoEventLoopGroup(
                1, Thread.ofPlatform().daemon().name("homekv-client").factory(), NioIoHandler.newFactory());
        this.channel = channelTo(host, port)
                .usePlaintext()
                .eventLoopGroup(eventLoop)
                .channelType(NioSocketChannel.class)
                .proxyDetector(address -> null)
                .directExecutor()
                .disableRetry()
                .keepAliveTime(KEEP_ALIVE_SECONDS, TimeUnit.SECONDS)
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .build();
        this.calls = channel;
        this.stub = HomeKvServiceGrpc.newBlockingStub(calls);
    }

    private Connection(Connection shared) {
        this.target = shared.target;
        this.timeoutNanos = shared.timeoutNanos;
        this.eventLoop = shared.eventLoop;
        this.channel = shared.channel;
        this.calls = ClientInterceptors.intercept(channel, new StoreHeader.Pin());
        this.stub = HomeKvServiceGrpc.newBlockingStub(calls);
    }

    /**
     * The same connection for calls that follow from each other: all are answered by one store, or with OUT_OF_RANGE where
     * the server has been started anew in between. Closed with this one.
     */
    Connection withOneStore() {
        return calls == channel ? new Connection(this) : this;
    }

    /** An address goes as it is: there is nothing to look up, again and again, on threads that are there for that. */
    private static NettyChannelBuilder channelTo(String host, int port) {
        InetAddress address = address(host);
        return address == null
                ? NettyChannelBuilder.forAddress(host, port)
                : NettyChannelBuilder.forAddress(new InetSocketAddress(address, port));
    }

    /**
     * The address that is written, with or without brackets; null for a name, and for one within a zone, which is left to
     * those who know the zones. Looks nothing up.
     */
    static InetAddress address(String host) {
        boolean isIpv6 = host.indexOf(':') >= 0 && host.indexOf('%') < 0;
        if (!isIpv6 && !isFourNumbers(host)) {
            return null;
        }
        try {
            // In brackets the JDK takes it for an address or for nothing.
            InetAddress address = InetAddress.getByName(isIpv6 && !host.startsWith("[") ? "[" + host + "]" : host);
            return InetAddress.getByAddress(host, address.getAddress());
        } catch (UnknownHostException e) {
            return null; // The channel says so when it is used.
        }
    }

    private static boolean isFourNumbers(String host) {
        int dots = 0;
        for (int i = 0; i < host.length(); i++) {
            char c = host.charAt(i);
            if (c != '.' && (c < '0' || c > '9')) {
                return false;
            }
            dots += c == '.' ? 1 : 0;
        }
        return dots == 3;
    }

    /** Refuses what the channel would take for another address than the one written, or throw at. */
    private static String requireHost(String target) {
        try {
            URI address = new URI("//" + target);
            if (target.equals(address.getHost() + ":" + address.getPort())) {
                return target;
            }
        } catch (URISyntaxException e) {
            // Said below.
        }
        throw new HomeKvException(
                HomeKvException.Reason.UNREACHABLE, "no host can have the name in " + target + "; check it", null);
    }

    /** How long a call may take, and a stream may be silent where an answer is due. */
    long timeoutNanos() {
        return timeoutNanos;
    }

    // ---- Calls ----

    /** Calls a method that only reads. Blocks until the answer is here or the timeout is over. */
    <T> T read(Function<HomeKvServiceBlockingStub, T> method) {
        Deadline deadline = Deadline.after(timeoutNanos, TimeUnit.NANOSECONDS);
        for (int attempt = 1; ; attempt++) {
            try {
                return method.apply(stub.withDeadline(deadline));
            } catch (StatusRuntimeException e) {
                if (attempt == MAX_READ_ATTEMPTS || deadline.isExpired() || !pausedToRetry(e, attempt)) {
                    throw failure(e, false);
                }
            }
        }
    }

    /** Calls a method that may change something, once. Blocks until the answer is here or the timeout is over. */
    <T> T write(Function<HomeKvServiceBlockingStub, T> method) {
        try {
            return method.apply(stub.withDeadline(Deadline.after(timeoutNanos, TimeUnit.NANOSECONDS)));
        } catch (StatusRuntimeException e) {
            throw failure(e, true);
        }
    }

    /** Calls a method that takes as long as it takes, once. Blocks until the answer is here or the server is gone. */
    <T> T await(Function<HomeKvServiceBlockingStub, T> method) {
        try {
            return method.apply(stub);
        } catch (StatusRuntimeException e) {
            throw failure(e, false);
        }
    }

    /** A call that has yet to be started; what it tells its listener, it tells on the connection's thread. */
    <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method) {
        return calls.newCall(method, CallOptions.DEFAULT);
    }

    /** Begins a call with a stream of answers. Does not block. */
    <Q, R> ResponseStream<R> open(MethodDescriptor<Q, R> method, Q request) {
        return new ResponseStream<>(newCall(method), request);
    }

    /**
     * Whether a read that ended like this, for the {@code attempt}th time in a row, can be tried again; returns after a
     * pause if it can.
     */
    boolean pausedToRetry(StatusRuntimeException e, int attempt) {
        Status status = e.getStatus();
        if (!isLoss(status) || isCausedBy(UnknownHostException.class, status) || channel.isShutdown()) {
            return false;
        }
        // Else the channel goes on failing calls for a second or more before it tries to connect.
        channel.resetConnectBackoff();
        long longestMillis = FIRST_PAUSE_MILLIS << Math.min(attempt, MAX_PAUSE_SHIFT);
        try {
            // Many clients lose one server at the same moment, and should not all be back at the same one.
            Thread.sleep(ThreadLocalRandom.current().nextLong(longestMillis / 2, longestMillis));
            return true;
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    /** Whether a call ended because the server could not be reached, or went away and took its calls along. */
    private static boolean isLoss(Status status) {
        return switch (status.getCode()) {
            case UNAVAILABLE -> true;
            // What gRPC makes of a connection that breaks while a call is being started on it.
            case UNKNOWN -> isCausedBy(IOException.class, status);
            case CANCELLED -> status.getCause() == null; // Else it was ended on this side.
            default -> false;
        };
    }

    // ---- Failures ----

    /** That the server's answer makes no sense. */
    HomeKvException wrongAnswer(String what) {
        return new HomeKvException(HomeKvException.Reason.FAILED, target + " " + what, null);
    }

    /** What a status means to a caller; {@code write} says whether something may have been changed. */
    HomeKvException failure(StatusRuntimeException e, boolean write) {
        Status status = e.getStatus();
        String said = status.getDescription();
        String description = said == null || said.isBlank()
                ? "the server answered " + status.getCode() + " without a reason"
                : String.join(" ", said.lines().toList());
        if (e.getTrailers() != null && e.getTrailers().containsKey(Statuses.LOG_STOPPED)) {
            return new HomeKvException(HomeKvException.Reason.LOG_STOPPED, target + ": " + description, e);
        }
        String maybe = write ? "; the write may or may not have been carried out" : "";
        if (isLoss(status)) {
            return new HomeKvException(HomeKvException.Reason.UNREACHABLE, unreachable(status, description + maybe), e);
        }
        if (isCausedBy(InterruptedException.class, status)) {
            return new HomeKvException(
                    HomeKvException.Reason.FAILED,
                    "the thread was interrupted while it waited for " + target + maybe,
                    e);
        }
        return switch (status.getCode()) {
            case INVALID_ARGUMENT -> new HomeKvException(HomeKvException.Reason.INVALID, description, e);
            case RESOURCE_EXHAUSTED -> new HomeKvException(HomeKvException.Reason.NO_ROOM, description, e);
            case OUT_OF_RANGE ->
                new HomeKvException(HomeKvException.Reason.OUT_OF_RANGE, description, bounds(e.getTrailers()), e);
            case NOT_FOUND -> new HomeKvException(HomeKvException.Reason.NOT_FOUND, description, e);
            case DEADLINE_EXCEEDED ->
                new HomeKvException(
                        HomeKvException.Reason.UNREACHABLE,
                        "no answer from " + target + " within " + TimeUnit.NANOSECONDS.toMillis(timeoutNanos) + " ms"
                                + maybe,
                        e);
            default ->
                new HomeKvException(
                        HomeKvException.Reason.FAILED,
                        target + " answered " + status.getCode() + ": " + ofForeigner(status.getCode(), description),
                        e);
        };
    }

    /** The revisions that can be read, null where the server does not say. */
    private static OutOfRange bounds(Metadata trailers) {
        byte[] bounds = trailers == null ? null : trailers.get(OUT_OF_RANGE);
        try {
            return bounds == null ? null : OutOfRange.parseFrom(bounds);
        } catch (InvalidProtocolBufferException e) {
            return null; // The status has told the failure; this would only have told more.
        }
    }

    /** Adds a question where this looks like the answer of something else, or of a server without the method. */
    private static String ofForeigner(Status.Code code, String description) {
        return code == Status.Code.UNIMPLEMENTED
                ? description + "; is it a HomeKV server, and as new as this client?"
                : description.startsWith("http2 exception") ? description + "; is it a HomeKV server?" : description;
    }

    private String unreachable(Status status, String description) {
        if (isCausedBy(UnknownHostException.class, status)) {
            return "cannot find the host of " + target + "; check its name";
        }
        if (isCausedBy(ConnectException.class, status)) {
            return "nothing answers at " + target + "; is homekv running there?";
        }
        return "cannot reach " + target + ": " + description;
    }

    private static boolean isCausedBy(Class<? extends Exception> type, Status status) {
        Throwable cause = status.getCause();
        while (cause != null && !type.isInstance(cause)) {
            cause = cause.getCause();
        }
        return cause != null;
    }

    /** Ends the connection and the calls under way. */
    @Override
    public void close() {
        channel.shutdownNow();
        try {
            // The channel still schedules on the event loop until it has ended, which takes a moment.
            channel.awaitTermination(CLOSE_PATIENCE_MILLIS, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        eventLoop.shutdownGracefully(0, 0, TimeUnit.SECONDS);
    }
}
