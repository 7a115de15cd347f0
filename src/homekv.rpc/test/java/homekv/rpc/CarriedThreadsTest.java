package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Virtual threads run where they are told to, and to their end. */
class CarriedThreadsTest {
    private final LinkedBlockingQueue<Runnable> tasks = new LinkedBlockingQueue<>();
    private final List<String> seen = new ArrayList<>();

    @BeforeEach
    void whereTheJdkHasThem() {
        boolean supported = CarriedThreads.supported();
        assertTrue(supported || Runtime.version().feature() > 25, "JDK 21 to 25 have them");
        assumeTrue(supported, "this JDK has them no more");
    }

    private void runNext() throws InterruptedException {
        tasks.poll(Harness.HANG_SECONDS, TimeUnit.SECONDS).run();
    }

    @Test
    void aThreadRunsOnItsCarrierAloneAndComesBackToItWhenItCanGoOn() throws Exception {
        Thread thread = CarriedThreads.of(tasks::add).newThread(() -> {
            seen.add("runs, virtual: " + Thread.currentThread().isVirtual());
            LockSupport.park();
            seen.add("goes on");
        });
        thread.start();
        assertEquals(List.of(), seen);
        runNext();
        assertEquals(List.of("runs, virtual: true"), seen);
        assertNull(tasks.poll());
        LockSupport.unpark(thread);
        runNext();
        assertEquals(List.of("runs, virtual: true", "goes on"), seen);
        assertTrue(thread.join(java.time.Duration.ofSeconds(Harness.HANG_SECONDS)));
    }

    @Test
    void aThreadThatBlocksGivesItsCarrierToTheNext() throws Exception {
        var threads = CarriedThreads.of(tasks::add);
        Thread first = threads.newThread(() -> {
            LockSupport.park();
            seen.add("first");
        });
        first.start();
        threads.newThread(() -> seen.add("second")).start();
        runNext();
        runNext();
        assertEquals(List.of("second"), seen);
        LockSupport.unpark(first);
        runNext();
        assertEquals(List.of("second", "first"), seen);
    }

    @Test
    void aThreadOutlivesACarrierThatTakesNothingAnyMore() throws Exception {
        boolean[] ended = new boolean[1];
        Thread thread = CarriedThreads.of(task -> {
                    if (ended[0]) {
                        throw new RejectedExecutionException("it has ended, for a test");
                    }
                    tasks.add(task);
                })
                .newThread(() -> {
                    LockSupport.park();
                    seen.add("goes on");
                });
        thread.start();
        runNext();
        ended[0] = true;
        LockSupport.unpark(thread);
        assertTrue(thread.join(java.time.Duration.ofSeconds(Harness.HANG_SECONDS)));
        assertEquals(List.of("goes on"), seen);
    }
}
