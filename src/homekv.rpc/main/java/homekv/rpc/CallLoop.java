package homekv.rpc;

import io.netty.channel.IoHandle;
import io.netty.channel.IoHandler;
import io.netty.channel.IoHandlerContext;
import io.netty.channel.IoHandlerFactory;
import io.netty.channel.IoRegistration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicReference;

/**
 * One of the transport's event loops as the calls on its connections see it: where they begin, and where short answers are
 * sent.
 *
 * <p>What it is for is that a thread is woken for many calls rather than for each. The calls that one round of reading has
 * completed are started together, each on a virtual thread of its own, from one more virtual thread, so that a single wake
 * of the scheduler serves them all. What they answer is collected, and sent by the loop together, in one write to the
 * socket where they share it. No call waits for another one's end: one that takes its time, or blocks, is answered by itself
 * whenever it is ready.
 *
 * <p>{@link #begin} is for the loop's own thread alone, {@link #answer} for any. Nothing here blocks.
 */
/*
 * Answers are a stack that its writers push to and the loop takes whole. A lost wake would leave one lying there for ever:
 * the loop says that it is going to wait before it looks whether there is something, and a writer pushes before it looks
 * whether the loop waits, so one of the two sees the other. The same holds for the tasks of Netty's own, which
 * IoHandlerContext.canBlock looks for.
 *
 * A call of a batch leaves the waking to the thread that has started the batch: that one yields once, which puts it behind
 * all of them in its scheduler's queue, and says then that they wake the loop for themselves from now on, and wakes it. It
 * may get there before some of them, where another carrier has taken it or they block; they find that said.
 */
final class CallLoop implements IoHandler {
    private static final System.Logger LOGGER = System.getLogger(CallLoop.class.getName());
    private static final ThreadLocal<CallLoop> CURRENT = new ThreadLocal<>();

    /** Calls that were completed together, and what starts them. */
    static final class Batch implements Runnable {
        private final CallLoop loop;

        /** Null once they have been started: one of them that goes on for long keeps this, and not the others. */
        private List<RequestCall<?>> calls;

        /** Whether each call that is answered has to wake the loop. */
        private volatile boolean wakesItself;

        private Batch(CallLoop loop, List<RequestCall<?>> calls) {
            this.loop = loop;
            this.calls = calls;
        }

        @Override
        public void run() {
            try {
                for (RequestCall<?> call : calls) {
                    call.start();
                }
                calls = null;
                Thread.yield();
            } finally {
                wakesItself = true;
                loop.wakeup();
            }
        }
    }

    private final IoHandler transport;
    private final ThreadFactory threads;

    /** Calls whose requests are complete; the loop's own. */
    private List<RequestCall<?>> begun = new ArrayList<>();

    /** Calls with something to send, the last one first. */
    private final AtomicReference<RequestCall<?>> answered = new AtomicReference<>();

    private final WhileUnanswered whileUnanswered = new WhileUnanswered();

    /** What Netty has passed to {@link #run}. */
    private IoHandlerContext netty;

    /** Whether the loop's thread waits for its sockets, or is about to. */
    private volatile boolean waiting;

    private CallLoop(IoHandler transport, ThreadFactory threads) {
        this.transport = transport;
        this.threads = threads;
    }

    /** Loops around a transport's, on which each call gets a thread from {@code threads}. */
    static IoHandlerFactory over(IoHandlerFactory transport, ThreadFactory threads) {
        return executor -> new CallLoop(transport.newHandler(executor), threads);
    }

    /** The loop whose thread this is. */
    static CallLoop current() {
        return CURRENT.get();
    }

    /** Starts {@code call} on a thread of its own, which is returned, when the loop has read what there is to be read now. */
    Thread begin(RequestCall<?> call) {
        Thread thread = threads.newThread(call);
        begun.add(call);
        if (waiting) {
            waiting = false; // It has been reading, evidently, and will look for answers before it waits again.
        }
        return thread;
    }

    /** Has the loop send what {@code call} answers. */
    void answer(RequestCall<?> call) {
        RequestCall<?> last;
        do {
            last = answered.get();
            call.answeredBefore = last;
        } while (!answered.compareAndSet(last, call));
        if (call.batch == null || call.batch.wakesItself) {
            wakeup();
        }
    }

    private void startCalls() {
        List<RequestCall<?>> calls = begun;
        if (calls.isEmpty()) {
            return;
        }
        if (calls.size() > 1) {
            Batch batch = null;
            try {
                batch = new Batch(this, calls);
                Thread starter = Thread.ofVirtual().unstarted(batch);
                List<RequestCall<?>> next = new ArrayList<>(calls.size());
                for (RequestCall<?> call : calls) {
                    call.batch = batch;
                }
                begun = next;
                starter.start();
                return;
            } catch (Throwable e) { // No memory for this thread; the calls may find some, or say that there is none.
                if (batch != null) {
                    batch.wakesItself = true;
                }
            }
        }
        for (RequestCall<?> call : calls) {
            call.start();
        }
        calls.clear();
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
        startCalls(); // Those that were completed outside of a read.
        if (sendAnswers()) {
            return 0; // They leave for the socket before more is read.
        }
        netty = context;
        waiting = true;
        try {
            return transport.run(whileUnanswered);
        } finally {
            waiting = false;
            startCalls();
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
