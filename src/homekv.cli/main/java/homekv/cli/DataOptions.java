package homekv.cli;

import homekv.storage.Durability;
import homekv.storage.LogOptions;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;

/**
 * Where and how a server keeps its data, as the command line says. Immutable.
 *
 * @param directory the data directory
 * @param restored the file of a backup to begin with, - for standard input; null: none
 */
record DataOptions(Path directory, LogOptions log, String restored) {
    private static final String DATA_DIR = "--data-dir";
    private static final String SYNC = "--sync";
    private static final String SNAPSHOT_LOG_BYTES = "--snapshot-log-bytes";
    private static final String SNAPSHOT_INTERVAL = "--snapshot-interval";
    private static final String MIN_FREE_BYTES = "--min-free-bytes";
    private static final String RECOVER_TO_LAST_GOOD = "--recover-to-last-good";
    private static final String RESTORE = "--restore";

    private static final String INTERVAL = "interval=";
    private static final String EVERY_HOUR = "60m";

    static final Map<String, Arguments.Takes> FLAGS = Map.of(
            DATA_DIR, Arguments.Takes.VALUE,
            SYNC, Arguments.Takes.VALUE,
            SNAPSHOT_LOG_BYTES, Arguments.Takes.VALUE,
            SNAPSHOT_INTERVAL, Arguments.Takes.VALUE,
            MIN_FREE_BYTES, Arguments.Takes.VALUE,
            RECOVER_TO_LAST_GOOD, Arguments.Takes.NOTHING,
            RESTORE, Arguments.Takes.VALUE);

    /** What the arguments say; null for a server that lives in memory. */
    static DataOptions read(Arguments arguments) throws UsageException {
        if (!arguments.has(DATA_DIR)) {
            for (String flag : arguments.flags()) {
                if (FLAGS.containsKey(flag)) {
                    throw new UsageException(flag + " needs --data-dir DIR, without which nothing is kept");
                }
            }
            return null;
        }
        LogOptions defaults = LogOptions.defaults();
        LogOptions log = sync(arguments.value(SYNC).orElse("always"), defaults)
                .withSnapshotLogBytes(
                        arguments.number(SNAPSHOT_LOG_BYTES, defaults.snapshotLogBytes(), 1, Long.MAX_VALUE))
                .withSnapshotIntervalMillis(Arguments.time(
                                SNAPSHOT_INTERVAL,
                                arguments.value(SNAPSHOT_INTERVAL).orElse(EVERY_HOUR),
                                Duration.ZERO)
                        .toMillis())
                .withMinFreeBytes(arguments.number(MIN_FREE_BYTES, defaults.minFreeBytes(), 0, Long.MAX_VALUE))
                .withRecoverToLastGood(arguments.has(RECOVER_TO_LAST_GOOD));
        String restored = arguments.value(RESTORE).orElse(null);
        if (restored != null && log.recoverToLastGood()) {
            throw new UsageException("--restore begins a new directory, which has nothing for --recover-to-last-good");
        }
        return new DataOptions(path(DATA_DIR, arguments.value(DATA_DIR).orElseThrow()), log, restored);
    }

    /** The path that was typed for a flag. */
    static Path path(String flag, String typed) throws UsageException {
        try {
            if (!typed.isEmpty()) {
                return Path.of(Text.utf8(typed));
            }
        } catch (InvalidPathException e) {
            // Said below, in the same words as for no name at all.
        }
        throw new UsageException(flag + " takes a path, not " + Text.show(typed));
    }

    private static LogOptions sync(String typed, LogOptions options) throws UsageException {
        if (typed.startsWith(INTERVAL)) {
            Duration interval =
                    Arguments.time(SYNC + " " + INTERVAL, typed.substring(INTERVAL.length()), Duration.ofMillis(1));
            return options.withDurability(Durability.INTERVAL).withForceIntervalMillis(interval.toMillis());
        }
        return options.withDurability(
                switch (typed) {
                    case "always" -> Durability.FORCED;
                    case "never" -> Durability.WRITTEN;
                    default ->
                        throw new UsageException("--sync takes always, interval=100ms (or another time) or never, not "
                                + Text.show(typed));
                });
    }
}
