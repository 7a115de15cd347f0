package homekv.rpc;

import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The client's end of a call that is answered with a stream of messages, pulled one by one.
 *
 * <p>The next message is asked for when one is taken, so that one is here and one is under way at the most, and the server
 * is held up where nobody takes them. One thread takes; any thread may close, which ends a wait.
 */
final class ResponseStream<R> implements AutoCloseable {
    private sealed interface Arrival<R> {
        record Message<R>(R message) implements Arrival<R> {}

        record End<R>(Status status, Metadata trailers) implements Arrival<R> {}
    }

    private final ClientCall<?, R> call;
    private final BlockingQueue<Arrival<R>> arrivals = new LinkedBlockingQueue<>();

    /** What has been taken out of the queue and not yet returned; the end stays. */
    private Arrival<R> arrived;

    /** Sends the request. Does not block. */
    <Q> ResponseStream(ClientCall<Q, R> call, Q request) {
        this.call = call;
        call.start(
                new ClientCall.Listener<>() {
                    @Override
                    public void onMessage(R message) {
                        arrivals.add(new Arrival.Message<>(message));
                    }

                    @Override
                    public void onClose(Status status, Metadata trailers) {
                        arrivals.add(new Arrival.End<>(status, trailers));
                    }
                },
                new Metadata());
        call.request(1);
        call.sendMessage(request);
        call.halfClose();
    }

    /**
     * Whether the next message or the end is here. Waits for it.
     *
     * @throws StatusRuntimeException CANCELLED if the thread was interrupted, which it still is
     */
    boolean arrives(long maxWaitNanos) {
        try {
            if (arrived == null) {
                arrived = arrivals.poll(maxWaitNanos, TimeUnit.NANOSECONDS);
            }
            return arrived != null;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw Status.CANCELLED
                    .withDescription("the thread was interrupted")
                    .withCause(e)
                    .asRuntimeException();
        }
    }

    /**
     * The next message, or null at the end of the stream. Waits for it.
     *
     * @throws StatusRuntimeException how the call ended, if not well; DEADLINE_EXCEEDED when the wait is over; CANCELLED
     *     if the thread was interrupted, which it still is
     */
    R next(long maxWaitNanos) {
        if (!arrives(maxWaitNanos)) {
            throw Status.DEADLINE_EXCEEDED.asRuntimeException();
        }
        return switch (arrived) {
            case Arrival.Message<R> message -> {
                arrived = null;
                call.request(1);
                yield message.message();
            }
            case Arrival.End<R> end -> {
                if (!end.status().isOk()) {
                    throw end.status().asRuntimeException(end.trailers());
                }
                yield null;
            }
        };
    }

    /** Ends the call, if it has not ended. */
    @Override
    public void close() {
        call.cancel("closed by the client", null);
    }
}
