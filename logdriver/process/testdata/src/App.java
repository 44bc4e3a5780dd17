import java.util.logging.Level;
import java.util.logging.Logger;

/** Stack traces as Java prints them, between ordinary lines. */
public class App {
    static class Declined extends RuntimeException {
        Declined(String message, Throwable cause) {
            super(message, cause);
        }
    }

    static class Door implements AutoCloseable {
        @Override
        public void close() {
            throw new IllegalStateException("the door does not close");
        }
    }

    static int charge(String card) {
        try {
            return Integer.parseInt(card);
        } catch (NumberFormatException e) {
            throw new Declined("card is not known", e);
        }
    }

    static void order() {
        try (Door d = new Door()) {
            charge("visa");
        }
    }

    static int deep(int n) {
        return n == 0 ? charge("master") : deep(n - 1);
    }

    public static void main(String[] args) throws Exception {
        System.err.println("begins");
        try {
            order();
        } catch (Declined e) {
            e.printStackTrace();
        }
        System.err.println("GET /orders 500");
        try {
            deep(5);
        } catch (Declined e) {
            Logger.getLogger("shop").log(Level.SEVERE, "an order was declined", e);
        }
        Thread t = new Thread(() -> deep(2), "worker");
        t.start();
        t.join();
        System.err.println("after an Error in a line of its own");
        Object nothing = null;
        nothing.toString();
    }
}
