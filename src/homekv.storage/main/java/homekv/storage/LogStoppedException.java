package homekv.storage;

/**
 * A {@link CommandLog} has stopped for good, because what it writes to has failed. The store can still be read; to
 * write again, mend the cause and open the log anew.
 */
public final class LogStoppedException extends IllegalStateException {
    private static final long serialVersionUID = 1;

    private final boolean outcomeUnknown;

    /**
     * @param reason why it has stopped, one line
     * @param outcomeUnknown whether the command may have been kept; else nothing was changed
     */
    public LogStoppedException(String reason, boolean outcomeUnknown) {
        super("the log has stopped: " + reason
                + (outcomeUnknown
                        ? "; whether this write was kept is not known before the store is opened again"
                        : "; nothing was changed"));
        this.outcomeUnknown = outcomeUnknown;
    }

    /**
     * Whether the command was under way when the log stopped: nobody sees it now, and when the log is opened again, it
     * is there whole or not at all.
     */
    public boolean outcomeUnknown() {
        return outcomeUnknown;
    }
}
