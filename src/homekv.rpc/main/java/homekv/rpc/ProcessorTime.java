package homekv.rpc;

import java.time.Duration;

/** What this process has taken of the processors. */
final class ProcessorTime {
    private ProcessorTime() {}

    /** The time of all its threads since it started, in microseconds, in steps of 10 ms on Linux; 0 where unknown. */
    static long micros() {
        return ProcessHandle.current()
                        .info()
                        .totalCpuDuration()
                        .map(Duration::toNanos)
                        .orElse(0L)
                / 1_000;
    }
}
