package homekv.storage;

/** The names of the files in a data directory; FORMAT.md says what is in them. */
final class FileNames {
    /** What the directory is. */
    static final String IDENTITY = "HOMEKV";

    /** Holds nothing; the kernel's lock is on it. */
    static final String LOCK = "lock";

    /** At the end of the name of a file that is not finished, and deleted when the store is opened. */
    static final String UNFINISHED = ".tmp";

    /** At the end of the name of a file that was given up for damage, and is never read again. */
    static final String DAMAGED = ".damaged";

    private static final String SEGMENT = "log-";
    private static final String SNAPSHOT_FILE = "snapshot-";
    private static final int DIGITS = 16;

    private FileNames() {}

    static String segment(long number) {
        return numbered(SEGMENT, number);
    }

    static String snapshotFile(long number) {
        return numbered(SNAPSHOT_FILE, number);
    }

    /** The number of the segment with this name; -1 if none has it. */
    static long segmentNumber(String name) {
        return number(SEGMENT, name);
    }

    /** The number of the snapshot file with this name; -1 if none has it. */
    static long snapshotFileNumber(String name) {
        return number(SNAPSHOT_FILE, name);
    }

    private static String numbered(String prefix, long number) {
        if (number <= 0) {
            throw new IllegalArgumentException("files are numbered from 1, not " + number);
        }
        return prefix + hex(number);
    }

    /** A number as it stands in the name of a file. */
    static String hex(long number) {
        return String.format("%016x", number);
    }

    private static long number(String prefix, String name) {
        if (!name.startsWith(prefix) || name.length() != prefix.length() + DIGITS) {
            return -1;
        }
        long number = 0;
        for (int i = prefix.length(); i < name.length(); i++) {
            int digit = "0123456789abcdef".indexOf(name.charAt(i));
            if (digit < 0) {
                return -1;
            }
            number = number << 4 | digit;
        }
        return number > 0 ? number : -1;
    }
}
