package homekv.bench;

import java.nio.file.Path;
import java.util.List;

/**
 * Where and how a part measures.
 *
 * @param directory an empty directory of its own, on the disk to be measured; emptied afterwards
 * @param image the runtime image as it is shipped, with {@code bin/homekv} and {@code bin/hkvctl} in it
 * @param serverFlags the JVM flags that the server is shipped with, but for caches: they are made for the image's own
 *     JVM. What is compared with the server, or with its store, has the same
 * @param quick whether it only has to be seen that it runs: a few seconds for each part, and the numbers mean nothing
 */
record Setting(Path directory, Path image, List<String> serverFlags, boolean quick) {}
