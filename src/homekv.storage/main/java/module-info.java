/** The HomeKV store: an in-memory, ordered, multi-version key-value store that can be embedded. */
module homekv.storage {
    exports homekv.storage;
}
