package homekv.storage;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/** What is to be done when a log stops for good: each action once, whether it is added before that or after it. */
final class FailureActions {
    private final Consumer<String> notices;
    private final ReentrantLock lock = new ReentrantLock();
    private final List<Runnable> actions = new ArrayList<>();
    private boolean stopped;

    FailureActions(Consumer<String> notices) {
        this.notices = notices;
    }

    /** Any thread. Runs it in this thread if the log has stopped, and else in the one that stops the log. */
    void add(Runnable action) {
        lock.lock();
        try {
            if (!stopped) {
                actions.add(action);
                return;
            }
        } finally {
            lock.unlock();
        }
        action.run();
    }

    /** The log has stopped. Once. Whatever one of them throws, the others are run. */
    void run() {
        lock.lock();
        try {
            stopped = true; // From here on nothing is added.
        } finally {
            lock.unlock();
        }
        for (int i = 0; i < actions.size(); i++) {
            try {
                actions.get(i).run();
            } catch (Throwable e) {
                tellFailed(e);
            }
        }
    }

    private void tellFailed(Throwable e) {
        try {
            notices.accept("what was to be done when the log stops has failed: " + e);
        } catch (OutOfMemoryError again) {
            return; // A line that is not read is no reason to leave the others untold.
        }
    }
}
