package homekv.cli;

import io.netty.util.internal.logging.InternalLoggerFactory;
import io.netty.util.internal.logging.JdkLoggerFactory;
import java.util.List;
import java.util.logging.Level;
import java.util.logging.Logger;

/** What both programs share: exit codes and what they know of themselves. */
final class Program {
    static final int DONE = 0;
    static final int REFUSED = 1;
    static final int USAGE = 2;
    static final int COMPARISON_FAILED = 4;
    static final int UNREACHABLE = 5;

    static final String DEFAULT_HOST = "127.0.0.1";
    static final int DEFAULT_PORT = 20001;
    static final int MAX_PORT = 65_535;

    /** Held here, because the logging system forgets the level of a logger that nobody holds. */
    private static final List<Logger> LIBRARY_LOGGERS =
            List.of(Logger.getLogger("io.grpc"), Logger.getLogger("io.netty"));

    private Program() {}

    /** Has one line logged a record, on standard error, and of gRPC and Netty nothing below {@code level}. */
    static void logOnly(Level level) {
        System.setProperty("java.util.logging.SimpleFormatter.format", "%1$tFT%1$tT.%1$tL %4$s %5$s%n");
        LIBRARY_LOGGERS.forEach(logger -> logger.setLevel(level));
        InternalLoggerFactory.setDefaultFactory(JdkLoggerFactory.INSTANCE); // Else Netty looks for three others first.
    }

    /** The version that this module was built as. */
    static String version() {
        return Program.class.getModule().getDescriptor().rawVersion().orElse("(no version)");
    }
}
