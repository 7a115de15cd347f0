package homekv.cli;

/** The command line cannot be understood. The message is one line that says what to write instead. */
final class UsageException extends Exception {
    private static final long serialVersionUID = 1;

    UsageException(String message) {
        super(message);
    }
}
