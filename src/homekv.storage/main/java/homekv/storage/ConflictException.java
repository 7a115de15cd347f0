package homekv.storage;

/**
 * What a {@link Transaction} has read was changed by others before it could be committed, each time that it was tried; or
 * it took so long that what it read is no longer kept. Nothing was changed. The caller may try again, better with a
 * shorter transaction.
 */
public final class ConflictException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** One line that says what happened. */
    public ConflictException(String message, Throwable cause) {
        super(message, cause);
    }
}
