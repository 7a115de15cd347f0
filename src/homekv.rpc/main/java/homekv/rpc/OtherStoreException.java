package homekv.rpc;

/** A request means a revision of another store than the one that is served here. */
final class OtherStoreException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** The first and the last revision that can be read here. */
    final long first;

    final long last;

    OtherStoreException(long first, long last) {
        super("the server has been started anew since, and its revisions are others; start again", null, false, false);
        this.first = first;
        this.last = last;
    }
}
