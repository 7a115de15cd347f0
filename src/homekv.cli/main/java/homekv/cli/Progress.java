package homekv.cli;

import java.io.PrintStream;
import java.util.Locale;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;

/**
 * What a long command says of itself on standard error: how far it is, where somebody looks at a terminal, and one line
 * at its end. Any thread may call it.
 */
final class Progress {
    private static final long PAUSE_NANOS = 100_000_000;
    private static final int BAR_CHARS = 24;

    /** No terminal is narrower, and what wraps cannot be cleared. */
    private static final int LONGEST_CHARS = 79;

    private final PrintStream err;
    private final boolean terminal;
    private final LongSupplier nanoClock;
    private final long startNanos;
    private final ReentrantLock lock = new ReentrantLock();

    private long nextNanos;
    private int shownChars;

    /** Takes the time from now on. */
    Progress(PrintStream err, boolean terminal, LongSupplier nanoClock) {
        this.err = err;
        this.terminal = terminal;
        this.nanoClock = nanoClock;
        this.startNanos = nanoClock.getAsLong();
        this.nextNanos = startNanos;
    }

    /** Whether anybody looks. */
    boolean isShown() {
        return terminal;
    }

    /**
     * Shows how far a command is; ten times a second at most.
     *
     * @param done how much of {@code total}
     * @param total 0: nobody knows
     * @param bytes what it has read or written so far
     */
    void show(String what, long done, long total, long pairs, long bytes) {
        if (!terminal) {
            return;
        }
        lock.lock();
        try {
            long now = nanoClock.getAsLong();
            if (now - nextNanos < 0) {
                return;
            }
            nextNanos = now + PAUSE_NANOS;
            StringBuilder line = new StringBuilder(what);
            if (total > 0) {
                double part = Math.min(1, (double) done / total);
                int full = (int) (part * BAR_CHARS);
                line.append(" [").append("#".repeat(full)).append(" ".repeat(BAR_CHARS - full));
                line.append(String.format(Locale.ROOT, "] %3d%%", (int) (part * 100)));
            }
            if (pairs > 0) {
                line.append(" ").append(pairs).append(" pairs,");
            }
            double seconds = Math.max(1, now - startNanos) / 1e9;
            line.append(" ").append(Text.size(bytes));
            line.append(", ").append(Text.size((long) (bytes / seconds))).append("/s");
            line.setLength(Math.min(line.length(), LONGEST_CHARS));
            int chars = line.length();
            line.append(" ".repeat(Math.max(0, shownChars - chars)));
            err.print("\r" + line);
            err.flush();
            shownChars = chars;
        } finally {
            lock.unlock();
        }
    }

    /** Takes away what is shown, so that the next line stands alone. */
    void clear() {
        lock.lock();
        try {
            if (shownChars > 0) {
                err.print("\r" + " ".repeat(shownChars) + "\r");
                err.flush();
                shownChars = 0;
            }
        } finally {
            lock.unlock();
        }
    }

    /** Says a line, in place of what is shown. */
    void say(String line) {
        lock.lock();
        try {
            clear();
            err.println(line);
        } finally {
            lock.unlock();
        }
    }

    /** How long it has taken so far: in 4.1 s. */
    String inSeconds() {
        return String.format(Locale.ROOT, "in %.1f s", (nanoClock.getAsLong() - startNanos) / 1e9);
    }
}
