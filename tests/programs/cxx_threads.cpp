// C++: std::thread, async, future, promise, exceptions across threads, condition_variable, shared_mutex, thread_local with destructors, chrono, random_device.
// cflags: -pthread
#include "check.h"
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static std::atomic<int> destroyed;
struct Local {
    int v = 0;
    ~Local() { destroyed++; }
};
static thread_local Local local;

int main() {
    std::random_device rd;
    unsigned seed = rd();
    std::promise<std::string> p;
    auto f = p.get_future();
    std::thread t([&] {
        local.v = 1;
        p.set_value("from " + std::to_string(gettid()));
    });
    std::string said = f.get();
    t.join();
    auto a = std::async(std::launch::async, [&]() -> int {
        local.v = 2;
        throw std::runtime_error("thrown " + std::to_string(seed));
    });
    std::string caught;
    try {
        a.get();
        CHECK(!"no exception");
    } catch (const std::runtime_error &e) {
        caught = e.what();
    }
    CHECK(caught == "thrown " + std::to_string(seed));

    std::mutex m;
    std::condition_variable cv;
    std::shared_mutex sm;
    std::map<int, int> table;
    int turn = 0;
    std::vector<std::thread> v;
    for (int i = 0; i < 4; i++)
        v.emplace_back([&, i] {
            local.v = i;
            for (int k = 0; k < 25; k++) {
                std::unique_lock<std::mutex> l(m);
                cv.wait(l, [&] { return turn % 4 == i; });
                turn++;
                cv.notify_all();
                l.unlock();
                if (k % 5 == 0) {
                    std::unique_lock<std::shared_mutex> w(sm);
                    table[i * 100 + k] = k;
                } else {
                    std::shared_lock<std::shared_mutex> r(sm);
                    CHECK(table.size() <= 20);
                }
            }
        });
    for (auto &x : v) x.join();
    CHECK(turn == 100 && table.size() == 20 && destroyed == 6);
    std::mt19937 gen(seed);
    auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::timed_mutex tm;
    tm.lock();
    std::thread late([&] { CHECK(!tm.try_lock_for(std::chrono::milliseconds(3))); });
    late.join();
    printf("%s, %s, %lld, %lu\n", said.c_str(), caught.c_str(), (long long)now, (unsigned long)gen());
    return 0;
}
