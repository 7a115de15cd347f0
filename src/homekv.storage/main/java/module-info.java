/** The HomeKV store: an in-memory, ordered, multi-version key-value store that can be embedded, with a log on disk. */
module homekv.storage {
    exports homekv.storage;
}
