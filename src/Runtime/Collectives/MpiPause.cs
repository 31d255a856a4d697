using System.Diagnostics;

namespace Z1Coder.Runtime;

/// <summary>What to do between two looks at messages that MPI only moves while it is called: give up the core for a while, then
/// sleep.</summary>
internal struct MpiPause
{
    private static readonly long s_yielding = Stopwatch.Frequency / 500;        // 2 ms

    private long _since;

    /// <summary>One pause.</summary>
    public void Once()
    {
        var now = Stopwatch.GetTimestamp();
        _since = _since == 0 ? now : _since;
        if (now - _since < s_yielding)
        {
            Thread.Yield();
        }
        else
        {
            Thread.Sleep(1);
        }
    }
}
