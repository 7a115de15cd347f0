package homekv.rpc;

import com.google.protobuf.ByteString;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import java.util.function.ToLongFunction;

/**
 * Makes one call of what many threads ask of one method at the same time: whoever finds a call under way waits, and when
 * it ends, all who wait go together into the next. Nobody waits for others to come, and a lone caller's call is his own.
 *
 * <p>Any thread may call. A call blocks, like one of the blocking stub, until the caller's own answer is here, his own
 * deadline has passed or he is interrupted; the others do not notice the last two. What one of them may have been refused
 * for alone does not touch the others either: then everyone is sent on his own.
 *
 * <p>Linearizability is that of the calls: each begins after all whose parts it carries have begun theirs, and ends before
 * they end. Who waits is taken in the order of arrival, so nobody starves.
 *
 * <p>What does not wait and goes by itself at once: a part that may stand only once in a call and has one like it waiting
 * (two sets of one key would be one version of it); what is large, or can be expected to have a large answer; and calls in
 * a gRPC context of their own.
 *
 * <p>Of the calls that gather, one is under way at a time: with two, four and eight each carries fewer parts, and what a
 * second of the processors gets done falls.
 *
 * @param <P> one caller's part of a request
 * @param <Q> the request
 * @param <R> the response, which all callers of one call share
 */
final class Gathering<P, Q, R> {
    /** What a caller was answered, together with others: his part was the {@code index}th of so many. */
    record Share<R>(R response, int index, int callers) {}

    /** So much goes into one call at the most: far below every limit that a server is likely to have. */
    private static final int MAX_CALLERS = 1_000;

    private static final long MAX_BYTES = 1 << 20;

    /** What is larger has a call of its own: gathering would save it little, and hold others up. */
    private static final long OWN_CALL_BYTES = 16 << 10;

    private final MethodDescriptor<Q, R> method;
    private final Function<List<P>, Q> request;
    private final ToLongFunction<R> answerBytes;

    /** Guards all below and what callers and batches say so of; held for no longer than it takes to form a batch. */
    private final ReentrantLock lock = new ReentrantLock();

    /** Empty unless a call is under way. */
    private final ArrayDeque<Caller> waiting = new ArrayDeque<>();

    /** What of those who wait may stand in a call only once. */
    private final Set<ByteString> waitingOnce = new HashSet<>();

    private boolean underWay;

    /** What a caller was answered of late, on average: what the next one can expect. */
    private volatile long expectedAnswerBytes;

    /**
     * @param request makes one request of the parts of several callers
     * @param answerBytes about how long a response is
     */
    Gathering(MethodDescriptor<Q, R> method, Function<List<P>, Q> request, ToLongFunction<R> answerBytes) {
        this.method = method;
        this.request = request;
        this.answerBytes = answerBytes;
    }

    /** One thread that waits for its answer. */
    private final class Caller {
        private final Thread thread = Thread.currentThread();
        private final P part;
        private final ByteString once;
        private final long bytes;
        private final HomeKvServiceBlockingStub timed;
        private final Deadline deadline;

        /** The call that it is in, null while it waits for one; under the lock, but for its own thread in the end. */
        private Batch batch;

        private int index;

        /** Set once the batch has ended; publishes what the batch says then. */
        private volatile boolean answered;

        Caller(P part, ByteString once, long bytes, HomeKvServiceBlockingStub timed) {
            this.part = part;
            this.once = once;
            this.bytes = bytes;
            this.timed = timed;
            this.deadline = timed.getCallOptions().getDeadline();
        }
    }

    /** A call, and those whose parts it carries. */
    private final class Batch implements StreamObserver<R> {
        private final List<Caller> callers;

        /** How many still wait for it; under the lock. */
        private int staying;

        /** Null until it has been started; under the lock. */
        private ClientCall<Q, R> call;

        private boolean ended; // Under the lock.

        /** Who is just starting it, as far as that thread itself knows. */
        private Thread starter;

        /** What the starter has to start next. */
        private Batch next;

        private R response;
        private Status status;
        private Metadata trailers;

        /** Under the lock. */
        Batch(List<Caller> callers) {
            this.callers = callers;
            this.staying = callers.size();
            for (int i = 0; i < callers.size(); i++) {
                callers.get(i).batch = this;
                callers.get(i).index = i;
            }
        }

        @Override
        public void onNext(R message) {
            response = message;
        }

        @Override
        public void onError(Throwable failure) {
            end(this, Status.fromThrowable(failure), Status.trailersFromThrowable(failure));
        }

        @Override
        public void onCompleted() {
            end(
                    this,
                    response != null ? Status.OK : Status.INTERNAL.withDescription("No value received for unary call"),
                    null);
        }
    }

    /**
     * Has one part carried out, in one call with what others ask for at the same time.
     *
     * @param once what may stand only once in a call: a second caller with the same goes alone. Null where it does not
     *     matter
     * @param partBytes how long the part is
     * @param timed a stub with a deadline
     * @throws StatusRuntimeException as the stub would
     */
    Share<R> call(P part, ByteString once, long partBytes, HomeKvServiceBlockingStub timed) {
        long bytes = partBytes + expectedAnswerBytes;
        // Any other context may have a deadline or an end of its own, which must not become that of others.
        if (bytes > OWN_CALL_BYTES || Context.current() != Context.ROOT) {
            return ownCall(part, timed);
        }
        Caller caller = new Caller(part, once, bytes, timed);
        Batch own = null;
        lock.lock();
        try {
            if (!underWay) {
                underWay = true;
                own = new Batch(List.of(caller));
            } else if (once == null || waitingOnce.add(once)) {
                waiting.add(caller);
            } else {
                caller = null;
            }
        } finally {
            lock.unlock();
        }
        if (caller == null) {
            return ownCall(part, timed);
        }
        if (own != null) {
            start(own);
        }
        await(caller);
        Batch batch = caller.batch;
        if (batch.status.isOk()) {
            return new Share<>(batch.response, caller.index, batch.callers.size());
        }
        if (batch.callers.size() > 1 && mayBeForAnother(batch.status)) {
            return ownCall(part, timed);
        }
        throw new StatusRuntimeException(batch.status, batch.trailers);
    }

    private Share<R> ownCall(P part, HomeKvServiceBlockingStub timed) {
        R response = ClientCalls.blockingUnaryCall(
                timed.getChannel(), method, timed.getCallOptions(), request.apply(List.of(part)));
        expectedAnswerBytes = answerBytes.applyAsLong(response);
        return new Share<>(response, 0, 1);
    }

    /** Whether a call may have ended so for what one caller asked, with nothing changed, and may go well for the others. */
    private static boolean mayBeForAnother(Status status) {
        return switch (status.getCode()) {
            case INVALID_ARGUMENT -> true;
            case RESOURCE_EXHAUSTED ->
                status.getDescription() == null || !status.getDescription().contains(Statuses.MAY_BE_CARRIED_OUT);
            default -> false;
        };
    }

    // ---- Waiting ----

    /** How many wait for the call under way to end. */
    int waiting() {
        lock.lock();
        try {
            return waiting.size();
        } finally {
            lock.unlock();
        }
    }

    private void await(Caller caller) {
        while (!caller.answered) {
            long leftNanos = caller.deadline.timeRemaining(TimeUnit.NANOSECONDS);
            if (leftNanos <= 0) {
                leave(caller);
                throw Status.DEADLINE_EXCEEDED.asRuntimeException();
            }
            LockSupport.parkNanos(this, leftNanos);
            if (!caller.answered && Thread.currentThread().isInterrupted()) {
                leave(caller);
                throw Status.CANCELLED
                        .withDescription("Thread interrupted")
                        .withCause(new InterruptedException())
                        .asRuntimeException();
            }
        }
    }

    /** A caller who does not wait any longer; his part is not sent any more, or his call is ended if all others left it. */
    private void leave(Caller caller) {
        ClientCall<Q, R> unwanted = null;
        lock.lock();
        try {
            if (caller.batch == null) {
                waiting.remove(caller);
                waitingOnce.remove(caller.once);
            } else if (--caller.batch.staying == 0) {
                unwanted = caller.batch.call;
            }
        } finally {
            lock.unlock();
        }
        if (unwanted != null) {
            cancel(unwanted);
        }
    }

    private static void cancel(ClientCall<?, ?> unwanted) {
        unwanted.cancel("all who waited for it have left", null);
    }

    // ---- Sending ----

    /** Starts a call, and those that come after it if it ends at once. On a caller's thread or on the transport's. */
    private void start(Batch first) {
        for (Batch batch = first; batch != null; batch = batch.next) {
            batch.starter = Thread.currentThread();
            // On the transport's thread, the context is that of the call which has just ended.
            Context before = Context.ROOT.attach();
            try {
                startOne(batch);
            } catch (RuntimeException | Error e) {
                end(
                        batch,
                        Status.CANCELLED.withDescription("it could not be sent").withCause(e),
                        null);
            } finally {
                Context.ROOT.detach(before);
                batch.starter = null;
            }
        }
    }

    private void startOne(Batch batch) {
        List<P> parts = new ArrayList<>(batch.callers.size());
        Caller last = batch.callers.get(0);
        for (Caller caller : batch.callers) {
            parts.add(caller.part);
            last = last.deadline.isBefore(caller.deadline) ? caller : last;
        }
        ClientCall<Q, R> call = last.timed.getChannel().newCall(method, last.timed.getCallOptions());
        ClientCalls.asyncUnaryCall(call, request.apply(parts), batch);
        lock.lock();
        boolean unwanted;
        try {
            batch.call = call;
            unwanted = batch.staying == 0;
        } finally {
            lock.unlock();
        }
        if (unwanted) {
            cancel(call);
        }
    }

    /** Once for every batch: lets the next one go, then tells the callers. */
    private void end(Batch batch, Status status, Metadata trailers) {
        Batch next;
        lock.lock();
        try {
            if (batch.ended) {
                return;
            }
            batch.ended = true;
            next = nextBatch();
        } finally {
            lock.unlock();
        }
        batch.status = status;
        batch.trailers = trailers;
        if (status.isOk()) {
            expectedAnswerBytes = answerBytes.applyAsLong(batch.response) / batch.callers.size();
        }
        if (batch.starter == Thread.currentThread()) {
            batch.next = next; // Else a thousand calls that fail at once would lie within each other on the stack.
        } else if (next != null) {
            start(next);
        }
        for (Caller caller : batch.callers) {
            caller.answered = true;
            LockSupport.unpark(caller.thread);
        }
    }

    /** Those who have waited longest, or null where nobody waits. Under the lock. */
    private Batch nextBatch() {
        if (waiting.isEmpty()) {
            underWay = false;
            return null;
        }
        List<Caller> callers = new ArrayList<>(Math.min(waiting.size(), MAX_CALLERS));
        long bytes = waiting.peek().bytes;
        do {
            Caller caller = waiting.poll();
            waitingOnce.remove(caller.once);
            callers.add(caller);
        } while (!waiting.isEmpty() && callers.size() < MAX_CALLERS && (bytes += waiting.peek().bytes) <= MAX_BYTES);
        return new Batch(callers);
    }
}
