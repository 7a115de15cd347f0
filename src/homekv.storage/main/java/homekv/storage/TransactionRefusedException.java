package homekv.storage;

/** The writes of a {@link Transaction} were refused. Nothing was changed; {@link #result} says why. */
public final class TransactionRefusedException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final transient Result result;

    TransactionRefusedException(Result result) {
        super("the transaction was refused: " + result);
        this.result = result;
    }

    /** Why it was refused: anything but {@link Result.Transacted}. */
    public Result result() {
        return result;
    }
}
