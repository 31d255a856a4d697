namespace Z1Coder.Runtime;

/// <summary>Times what streams of one device do, by events around every launch and copy. Costs a few µs each, so it is switched on for the
/// steps that are looked at. What runs inside a graph is not seen.</summary>
public sealed class CudaTrace : IDisposable
{
    private readonly CudaEvent _origin;
    private readonly List<(string Name, CudaStream Stream, bool IsRange, CudaEvent Begin, CudaEvent End)> _spans = [];
    private readonly List<CudaEvent> _events = [];
    private readonly List<CudaStream> _streams = [];
    private int _usedEvents;

    /// <summary>Begins on <paramref name="stream"/>; give it to the <see cref="CudaStream.Trace"/> of this and of other streams.</summary>
    public CudaTrace(CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Device = stream.Device;
        _origin = new CudaEvent(Device, timed: true);
        stream.Record(_origin);
    }

    /// <summary>The device of all its streams.</summary>
    public CudaDevice Device { get; }

    /// <summary>Waits for the work traced so far, returns it in order of enqueuing, and forgets it. The time origin stays.</summary>
    public IReadOnlyList<CudaSpan> Read()
    {
        var result = new CudaSpan[_spans.Count];
        for (var i = 0; i < result.Length; i++)
        {
            var (name, stream, isRange, begin, end) = _spans[i];
            end.Synchronize();
            result[i] = new(name, _streams.IndexOf(stream), isRange, begin.MillisecondsSince(_origin) * 1e3, end.MillisecondsSince(begin) * 1e3);
        }

        _spans.Clear();
        _usedEvents = 0;
        return result;
    }

    /// <summary>Destroys the events. Take the trace from its streams first.</summary>
    public void Dispose()
    {
        _events.ForEach(e => e.Dispose());
        _origin.Dispose();
    }

    /// <summary>Records the begin of a span; returns its number.</summary>
    internal int Begin(CudaStream stream, string name, bool isRange)
    {
        if (!_streams.Contains(stream))
        {
            _streams.Add(stream);
        }

        var span = (name, stream, isRange, Next(), Next());
        stream.Record(span.Item4);
        _spans.Add(span);
        return _spans.Count - 1;
    }

    /// <summary>Records the end of a span.</summary>
    internal void End(int span) => _spans[span].Stream.Record(_spans[span].End);

    private CudaEvent Next()
    {
        if (_usedEvents == _events.Count)
        {
            _events.Add(new CudaEvent(Device, timed: true));
        }

        return _events[_usedEvents++];
    }
}
