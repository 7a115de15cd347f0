package homekv.storage;

import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * The callers of a log that wait to be answered, in the order in which they have come. Any thread may enqueue itself and
 * then waits; one thread, the <em>taker</em>, takes them, decides what becomes of them, and wakes each.
 *
 * <p>The protocol: a caller makes a {@link Waiting}, which is where all that can run out of memory happens; calls {@link
 * #enqueue}, from which on it cannot leave; and {@link Waiting#await}, which returns once {@link Waiting#isDone}. The
 * taker calls {@link #take} and {@link #remove}; from then on a Waiting, its link to another one included, is the
 * taker's, which fills in the answer and then calls {@link Waiting#wake} or {@link Waiting#tellEnded}, once. After
 * {@link #close} the taker takes the last, and whoever comes later is refused.
 *
 * <p>Nothing here blocks but {@link Waiting#await}; and nothing but the making of a Waiting allocates.
 */
/*
 * Why nobody waits forever. `newest` is a stack by compare and set. Whoever finds it empty wakes the taker; the taker
 * takes the whole stack at once, so if it was not empty, it has yet to be taken, and whoever made it so has woken the
 * taker or is about to. Before the taker sleeps it has to look once more, right before it parks, at `isEmpty` and at all
 * else that it could be woken for, since locks that it waited for in between may have used up the wake-up. A wake-up
 * before the taker has been started is lost, but it looks before it sleeps for the first time, too.
 *
 * At the end the taker leaves ENDED in the stack, in the same step in which it takes what was there: what comes later is
 * refused by its own thread, and nothing that came before is forgotten.
 */
final class SubmissionQueue {
    /** A thread that waits for its command, or for a snapshot file. What it is answered is the taker's until it is done. */
    static final class Waiting {
        /** Null: a snapshot file is wanted. */
        final Command command;

        private final Thread thread;

        /** Whoever came before it; and, once it has been taken, whoever came after. */
        Waiting next;

        /** Whether something is logged for it. */
        boolean logged;

        /** What it is answered: a result or a snapshot file; or why there is none, its own failure or the log's end. */
        Object answer;

        Throwable failure;
        private boolean ended;
        private boolean outcomeUnknown;

        /** Written last. */
        private volatile boolean done;

        /** One for the thread that calls this. */
        Waiting(Command command) {
            this(command, Thread.currentThread());
        }

        private Waiting(Command command, Thread thread) {
            this.command = command;
            this.thread = thread;
        }

        /** Returns once it has been told what becomes of it. Being interrupted changes nothing, and is not forgotten. */
        void await() {
            boolean interrupted = false;
            while (!done) {
                try {
                    LockSupport.park(this);
                } catch (OutOfMemoryError e) {
                    Thread.onSpinWait(); // It cannot leave: what becomes of its command is being decided.
                }
                interrupted |= Thread.interrupted();
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }

        /** Whether it has been told what becomes of it. */
        boolean isDone() {
            return done;
        }

        /** Whether it has been told that the log has ended, and once that is so, whether its command may be kept. */
        boolean isEnded() {
            return ended;
        }

        boolean isOutcomeUnknown() {
            return outcomeUnknown;
        }

        /** That it has its answer or its failure. */
        void wake() {
            done = true;
            LockSupport.unpark(thread);
        }

        void tellEnded(boolean unknown) {
            outcomeUnknown = unknown;
            ended = true;
            wake();
        }

        /** Tells all of a list, which may be null, that the log has ended and that nothing was done for them. */
        static void tellEnded(Waiting each) {
            while (each != null) {
                Waiting next = each.next; // Read before it goes on, and perhaps waits again.
                each.tellEnded(false);
                each = next;
            }
        }
    }

    /** In the stack once nobody is taken any more. */
    private static final Waiting ENDED = new Waiting(null, null);

    private final AtomicReference<Waiting> newest = new AtomicReference<>();

    /** Null: whoever enqueues itself sees to it that it is taken. */
    private final Thread taker;

    private volatile boolean closing;

    /** The taker's: those who have been taken and not removed yet, first come first. */
    private Waiting first;

    SubmissionQueue(Thread taker) {
        this.taker = taker;
    }

    // ---- Any thread ----

    /** Lets a caller in; false: nobody is let in any more. */
    boolean enqueue(Waiting waiting) {
        Waiting head;
        do {
            head = newest.get();
            if (head == ENDED) {
                return false;
            }
            waiting.next = head;
        } while (!newest.compareAndSet(head, waiting));
        if (head == null) {
            LockSupport.unpark(taker);
        }
        return true;
    }

    /** Has the taker take once more, and nobody who comes after that. */
    void close() {
        closing = true;
        LockSupport.unpark(taker);
    }

    // ---- The taker ----

    /** Takes all who wait, if nobody is left of those who were taken before; the first of them, or null. */
    Waiting take() {
        boolean last = closing;
        Waiting head = newest.get();
        if (first == null && head != ENDED && (last || head != null)) {
            first = firstComeFirst(newest.getAndSet(last ? ENDED : null));
        }
        return first;
    }

    private static Waiting firstComeFirst(Waiting stack) {
        Waiting list = null;
        while (stack != null) {
            Waiting before = stack.next;
            stack.next = list;
            list = stack;
            stack = before;
        }
        return list;
    }

    /** The first of those who were taken has been seen to, or goes elsewhere. */
    void remove() {
        Waiting removed = first;
        first = removed.next;
        removed.next = null;
    }

    boolean isClosing() {
        return closing;
    }

    /** Whether the taker may sleep: there is nobody to take or to remove, and the end has not come. */
    boolean isEmpty() {
        return first == null && newest.get() == null && !closing;
    }

    /** Whether nobody is left, and nobody can come. */
    boolean isOver() {
        return first == null && newest.get() == ENDED;
    }

    /** Tells all who are in it that the log has ended, and lets nobody in from now on. */
    void end() {
        Waiting.tellEnded(first);
        first = null;
        Waiting rest = newest.getAndSet(ENDED);
        Waiting.tellEnded(rest == ENDED ? null : rest);
    }
}
