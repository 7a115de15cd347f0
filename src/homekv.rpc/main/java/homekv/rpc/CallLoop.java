package homekv.rpc;

import homekv.storage.Bytes;
import io.netty.channel.IoHandle;
import io.netty.channel.IoHandler;
import io.netty.channel.IoHandlerContext;
import io.netty.channel.IoHandlerFactory;
import io.netty.channel.IoRegistration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * One of the transport's event loops as the calls on its connections see it: where they get their threads, and where short
 * answers are sent.
 *
 * <p>What it is for is that no thread is woken for a call. A call that is brief runs on a virtual thread that the loop's own
 * thread carries, as soon as it has read what there is to be read ({@link CarriedThreads}): it is begun, carried out and
 * answered without leaving the processor, and yet may block, which gives the loop back. All others run on the JDK's
 * carriers, so that none keeps a loop from its connections. What calls answer is collected, and sent by the loop together,
 * in one write to the socket where they share it. No call waits for another one's end: one that takes its time, or blocks,
 * is answered by itself whenever it is ready.
 *
 * <p>{@link #thread} and {@link #expect} are for the loop's own thread alone, {@link #answer} for any. Nothing here blocks.
 */
/*
 * Answers are a stack that its writers push to and the loop takes whole. A lost wake would leave one lying there for ever:
 * the loop says that it is going to wait before it looks whether there is something, and a writer pushes before it looks
 * whether the loop waits, so one of the two sees the other. The same holds for the tasks of Netty's own, the carried threads
 * among them, which IoHandlerContext.canBlock looks for.
 */
final class CallLoop implements IoHandler {
    private static final System.Logger LOGGER = System.getLogger(CallLoop.class.getName());
    private static final ThreadLocal<CallLoop> CURRENT = new ThreadLocal<>();

    /** What is fetched for more calls than these may have left the processor's cache before they run. */
    private static final int MOST_EXPECTED = 128;

    private final IoHandler transport;
    private final ThreadFactory briefThreads;
    private final ThreadFactory threads;
    private final Consumer<List<Bytes>> fetch;

    /** What brief calls are about to look up that have come since the loop began to read. */
    private final List<Bytes> expected = new ArrayList<>();

    /** Calls with something to send, the last one first. */
    private final AtomicReference<RequestCall<?>> answered = new AtomicReference<>();

    private final WhileUnanswered whileUnanswered = new WhileUnanswered();

    /** What Netty has passed to {@link #run}. */
    private IoHandlerContext netty;

    /** Whether the loop's thread waits for its sockets, or is about to. */
    private volatile boolean waiting;

    private CallLoop(
            IoHandler transport, ThreadFactory briefThreads, ThreadFactory threads, Consumer<List<Bytes>> fetch) {
        this.transport = transport;
        this.briefThreads = briefThreads;
        this.threads = threads;
        this.fetch = fetch;
    }

    /**
     * Loops around a transport's. Brief calls get threads from what {@code briefThreads} makes of a loop, all others from
     * {@code threads}. What several brief calls are about to look up is passed to {@code fetch} before they run.
     */
    static IoHandlerFactory over(
            IoHandlerFactory transport,
            Function<Executor, ThreadFactory> briefThreads,
            ThreadFactory threads,
            Consumer<List<Bytes>> fetch) {
        return loop -> new CallLoop(transport.newHandler(loop), briefThreads.apply(loop), threads, fetch);
    }

    /** The loop whose thread this is. */
    static CallLoop current() {
        return CURRENT.get();
    }

    /** A thread for a part of a call; to be started. */
    Thread thread(Runnable work, boolean brief) {
        if (waiting) {
            waiting = false; // It has been reading, evidently, and will look for answers before it waits again.
        }
        return (brief ? briefThreads : threads).newThread(work);
    }

    /** A brief call that is about this key runs as soon as the loop has read what there is to be read; null: about several. */
    void expect(Bytes key) {
        if (key != null && expected.size() < MOST_EXPECTED) {
            expected.add(key);
        }
    }

    /** Has what the calls that have come together look up fetched at once: by themselves, each would wait for its own. */
    private void fetchExpected() {
        try {
            if (expected.size() > 1) {
                fetch.accept(expected);
            }
        } catch (OutOfMemoryError e) {
            // It was a hint, and the calls run without; but a loop that throws ends.
        } finally {
            expected.clear();
        }
    }

    /** Has the loop send what {@code call} answers. */
    void answer(RequestCall<?> call) {
        RequestCall<?> last;
        do {
            last = answered.get();
            call.answeredBefore = last;
        } while (!answered.compareAndSet(last, call));
        wakeup();
    }

    /** Sends what has been answered, in that order; false if nothing has. */
    private boolean sendAnswers() {
        RequestCall<?> last = answered.getAndSet(null);
        if (last == null) {
            return false;
        }
        RequestCall<?> next = null;
        for (RequestCall<?> call = last; call != null; ) {
            RequestCall<?> before = call.answeredBefore;
            call.answeredBefore = next;
            next = call;
            call = before;
        }
        while (next != null) {
            RequestCall<?> call = next;
            next = call.answeredBefore;
            call.answeredBefore = null;
            try {
                call.finish();
            } catch (Throwable e) { // The others have nothing to do with it.
                log(e);
            }
        }
        return true;
    }

    /** A loop that throws ends, and all its connections with it. */
    private static void log(Throwable failure) {
        try {
            LOGGER.log(System.Logger.Level.WARNING, "an answer could not be sent: {0}", failure.toString());
        } catch (OutOfMemoryError e) {
            // Not even for saying so.
        }
    }

    // ---- Netty's side, on the loop's thread but for wakeup ----

    @Override
    public void initialize() {
        CURRENT.set(this);
        transport.initialize();
    }

    @Override
    public int run(IoHandlerContext context) {
        if (sendAnswers()) {
            return 0; // They leave for the socket before more is read.
        }
        netty = context;
        waiting = true;
        try {
            return transport.run(whileUnanswered);
        } finally {
            waiting = false;
            fetchExpected();
        }
    }

    /** Lets the transport wait only as long as nothing has been answered. */
    private final class WhileUnanswered implements IoHandlerContext {
        @Override
        public boolean canBlock() {
            return answered.get() == null && netty.canBlock();
        }

        @Override
        public long delayNanos(long currentTimeNanos) {
            return netty.delayNanos(currentTimeNanos);
        }

        @Override
        public long deadlineNanos() {
            return netty.deadlineNanos();
        }

        @Override
        public void reportActiveIoTime(long activeNanos) {
            netty.reportActiveIoTime(activeNanos);
        }

        @Override
        public boolean shouldReportActiveIoTime() {
            return netty.shouldReportActiveIoTime();
        }
    }

    @Override
    public void wakeup() {
        if (waiting) {
            transport.wakeup();
        }
    }

    @Override
    public void prepareToDestroy() {
        transport.prepareToDestroy();
    }

    @Override
    public void destroy() {
        transport.destroy();
    }

    @Override
    public IoRegistration register(IoHandle handle) throws Exception {
        return transport.register(handle);
    }

    @Override
    public boolean isCompatible(Class<? extends IoHandle> handleType) {
        return transport.isCompatible(handleType);
    }
}
