package homekv.storage;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Locale;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/** Lines for whoever runs a server. */
final class Notices {
    private Notices() {}

    /** The same notices, given one at a time, whatever threads give them. */
    static Consumer<String> oneAtATime(Consumer<String> notices) {
        ReentrantLock lock = new ReentrantLock();
        return line -> {
            lock.lock();
            try {
                notices.accept(line);
            } finally {
                lock.unlock();
            }
        };
    }

    /** Why something has failed, in one line. */
    static String reason(Throwable e) {
        String message = e instanceof IOException || e instanceof UncheckedIOException ? e.getMessage() : e.toString();
        return (message == null ? e.toString() : message).replaceAll("\\s*\\R\\s*", " ");
    }

    static String megabytes(long bytes) {
        return bytes < 10_000_000
                ? String.format(Locale.ROOT, "%.3f MB", bytes / 1e6)
                : String.format(Locale.ROOT, "%,d MB", bytes / 1_000_000);
    }
}
