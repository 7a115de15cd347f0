package homekv.rpc;

import java.lang.reflect.Constructor;
import java.lang.reflect.InaccessibleObjectException;
import java.util.concurrent.Executor;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadFactory;

/**
 * Virtual threads that an executor of the caller's carries instead of the JDK's scheduler: each time that one of them can go
 * on, the executor is given a task that runs it until it ends or blocks.
 *
 * <p>The JDK has that since virtual threads came, but not as API: java.base has to be started with
 * {@code --add-opens java.base/java.lang=homekv.rpc}, as the server's launcher does. Where it is not, or a JDK has it no
 * more, the threads are the JDK's ordinary virtual threads. They do the same, and cost the waking of other threads.
 */
final class CarriedThreads {
    /** Of a builder of virtual threads with a scheduler; null if there is none to be had. */
    private static final Constructor<?> BUILDER = builder();

    private CarriedThreads() {}

    private static Constructor<?> builder() {
        try {
            Constructor<?> builder = Class.forName("java.lang.ThreadBuilders$VirtualThreadBuilder")
                    .getDeclaredConstructor(Executor.class);
            builder.setAccessible(true);
            builder.newInstance((Executor) Runnable::run); // Not where virtual threads are the platform's in disguise.
            return builder;
        } catch (ReflectiveOperationException | InaccessibleObjectException e) {
            return null;
        }
    }

    /** Whether threads are carried at all in this JVM. */
    static boolean supported() {
        return BUILDER != null;
    }

    /**
     * Threads that {@code carrier} carries; may be used by any thread. They outlive it: what it rejects, having been shut
     * down, is carried by the JDK's common pool, so that a thread which has to give something back comes to do so.
     */
    static ThreadFactory of(Executor carrier) {
        if (BUILDER == null) {
            return Thread.ofVirtual().factory();
        }
        Executor scheduler = task -> {
            try {
                carrier.execute(task);
            } catch (RejectedExecutionException e) {
                ForkJoinPool.commonPool().execute(task);
            }
        };
        try {
            return ((Thread.Builder.OfVirtual) BUILDER.newInstance(scheduler)).factory();
        } catch (ReflectiveOperationException e) {
            throw new AssertionError("a builder of threads can be made", e);
        }
    }
}
