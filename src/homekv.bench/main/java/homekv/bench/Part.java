package homekv.bench;

/** One part of the benchmarks. */
interface Part {
    /**
     * Measures, and reports under a name and title of its own. Takes eight minutes at most, leaves no process behind, and
     * interleaves what it compares.
     */
    void measure(Report report, Setting setting) throws Exception;
}
