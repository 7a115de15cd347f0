package homekv.rpc;

import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.Result;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.ServerStreamTracer;
import io.grpc.Status;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/**
 * The memory that requests and responses of all calls under way take together, held against
 * {@link Limits#inFlightBytes()}.
 *
 * <p>A request is charged while it arrives, before it is complete, so that nobody can fill the server's memory with
 * messages that never end. Nobody waits for room: a call that finds none is refused, and may come again.
 */
final class InFlightBytes extends ServerStreamTracer.Factory {
    /** How far over its limit a request may be and still be received, so that the refusal can name its size. */
    private static final int NAMED_EXCESS_FACTOR = 2;

    /** What part of the limit streams may take, so that whoever does not read his cannot take the room of requests. */
    private static final int STREAMS_SHARE = 2;

    private final Limits limits;
    private final AtomicLong reserved = new AtomicLong();

    /** Of that, what streams have taken for responses that have not been sent. */
    private final AtomicLong reservedByStreams = new AtomicLong();

    InFlightBytes(Limits limits) {
        this.limits = limits;
    }

    @Override
    public ServerStreamTracer newServerStreamTracer(String fullMethodName, Metadata headers) {
        return new Call(fullMethodName.startsWith(HomeKvService.NAME + "/"));
    }

    /** Bytes charged now. Any thread. */
    long reserved() {
        return reserved.get();
    }

    private boolean tryReserve(long bytes) {
        if (reserved.addAndGet(bytes) <= limits.inFlightBytes()) {
            return true;
        }
        reserved.addAndGet(-bytes);
        return false;
    }

    /**
     * What one call is charged. The transport's thread reports what arrives, the call's own thread what it is going
     * to send; both have to be done with the call before its charge is given back.
     */
    final class Call extends ServerStreamTracer {
        private static final Context.Key<Call> KEY = Context.key("homekv-in-flight-bytes");

        /** Whether the method takes one message; of others, each has been dealt with when the next one begins. */
        private final boolean oneMessage;

        private final AtomicInteger parties = new AtomicInteger(1);
        private long charged;
        private long chargedStream;
        private long receivedBytes;
        private boolean refused;
        private Consumer<Status> onRefusal;

        Call(boolean oneMessage) {
            this.oneMessage = oneMessage;
        }

        /** The charge of the call that is being started on this thread. */
        static Call current() {
            return KEY.get();
        }

        @Override
        public Context filterContext(Context context) {
            return context.withValue(KEY, this);
        }

        /** Before a message arrives: who ends the call if the message cannot be taken. On the transport's thread. */
        void onRefusal(Consumer<Status> refuse) {
            onRefusal = refuse;
        }

        @Override
        public void inboundMessage(int sequenceNumber) {
            if (oneMessage) {
                if (sequenceNumber > 0) {
                    refuse(Statuses.wrongMessageCount());
                }
                return;
            }
            reserved.addAndGet(-charged);
            charged = 0;
            receivedBytes = 0;
        }

        @Override
        public void inboundWireSize(long bytes) {
            if (refused) {
                return;
            }
            receivedBytes += bytes;
            boolean excessive = receivedBytes > (long) NAMED_EXCESS_FACTOR * limits.requestBytes();
            boolean hasRoom = !excessive && charge(bytes);
            if (!hasRoom && receivedBytes > limits.requestBytes()) {
                refuse(Statuses.requestTooLarge(receivedBytes, limits));
            } else if (!hasRoom) {
                refuse(Statuses.refused(
                        new Result.Refused(Limit.IN_FLIGHT_BYTES, receivedBytes, limits.inFlightBytes())));
            }
        }

        private void refuse(Status status) {
            if (!refused) {
                refused = true;
                onRefusal.accept(status);
            }
        }

        /** Charges {@code bytes} more; false if there is no room for them. */
        boolean charge(long bytes) {
            if (!tryReserve(bytes)) {
                return false;
            }
            charged += bytes;
            return true;
        }

        /**
         * Charges the response of a stream; false if there is no room for it, or none in the share that streams have. One
         * that has the share for itself may have more.
         */
        boolean chargeStream(long bytes) {
            long all = reservedByStreams.addAndGet(bytes);
            boolean alone = all == chargedStream + bytes;
            if ((alone || all <= limits.inFlightBytes() / STREAMS_SHARE) && charge(bytes)) {
                chargedStream += bytes;
                return true;
            }
            reservedByStreams.addAndGet(-bytes);
            return false;
        }

        /** Gives back what was charged by {@link #chargeStream}. */
        void releaseStream(long bytes) {
            chargedStream -= bytes;
            reservedByStreams.addAndGet(-bytes);
            release(bytes);
        }

        /** Gives back a part of the charge before the call ends. */
        void release(long bytes) {
            charged -= bytes;
            reserved.addAndGet(-bytes);
        }

        /** Gives back all that has been charged so far. */
        void releaseAll() {
            release(charged);
        }

        /** One more thread works for this call, and will say {@link #done}. */
        void join() {
            parties.incrementAndGet();
        }

        void done() {
            if (parties.decrementAndGet() == 0) {
                reserved.addAndGet(-charged);
                reservedByStreams.addAndGet(-chargedStream);
            }
        }

        @Override
        public void streamClosed(Status status) {
            done();
        }
    }
}
