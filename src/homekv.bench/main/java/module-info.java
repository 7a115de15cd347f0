/** Measures the store on the disk at hand. For those who develop it; nothing depends on it, and no image has it. */
module homekv.bench {
    requires homekv.storage;
}
