package homekv.storage;

import java.io.IOException;

/**
 * A data directory that cannot be used as it is: damaged, of another format version, in use, or none at all. The message
 * is one line that names the file, where in it, what was found, and what can be done.
 *
 * <p>Immutable. Whoever gets one for {@linkplain #isDamage() damage} may open the directory in the way that accepts the
 * loss of what follows, or restore a backup into another one; for anything else, do what the message says.
 */
public final class DataDirectoryException extends IOException {
    private static final long serialVersionUID = 1;

    private final boolean damage;
    private final String finding;

    private DataDirectoryException(String finding, String advice, boolean damage, Throwable cause) {
        super(finding + advice, cause);
        this.finding = finding;
        this.damage = damage;
    }

    /** Something that giving up data does not make good; the message says what does. */
    DataDirectoryException(String message) {
        this(message, "", false, null);
    }

    /** Bytes that are not what was written. */
    static DataDirectoryException damaged(String path, long offset, String found) {
        return damaged(path, offset, found, null);
    }

    static DataDirectoryException damaged(String path, long offset, String found, Throwable cause) {
        return damaged(path + " at byte " + offset + ": " + found, cause);
    }

    /** Damage that is not within one file, such as a file that is missing. */
    static DataDirectoryException damaged(String finding, Throwable cause) {
        return new DataDirectoryException(
                finding,
                "; restore a backup, or accept the loss of everything from there on with --recover-to-last-good",
                true,
                cause);
    }

    /** Damage with nothing whole in front of it. */
    static DataDirectoryException nothingGood(DataDirectoryException damage) {
        return new DataDirectoryException(damage.finding()
                + "; there is no whole snapshot file, and the log does not begin with segment 1, so there is nothing"
                + " to recover to: restore a backup into an empty directory");
    }

    /** Whether bytes are damaged or files missing, so that recovering to the last good record can help. */
    public boolean isDamage() {
        return damage;
    }

    /** The message without the advice. */
    String finding() {
        return finding;
    }
}
