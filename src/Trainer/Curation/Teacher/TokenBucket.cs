namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>
/// A rate limit: so many units a minute, evenly, with one second's worth (at least one unit) saved up at most. A taker pays at once and
/// waits until its debt is refilled, so takers go in the order in which they came and nobody starves. Safe for any number of threads.
/// </summary>
public sealed class TokenBucket
{
    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly double _perSecond;
    private readonly double _burst;
    private double _level;
    private long _at;
    private long _pausedUntil;

    /// <summary>A full bucket; 0 <paramref name="perMinute"/> sets no limit, and only pauses hold anyone back.</summary>
    public TokenBucket(double perMinute, TimeProvider? time = null)
    {
        (_time, _perSecond) = (time ?? TimeProvider.System, perMinute / 60);
        _burst = Math.Max(1, _perSecond);
        (_level, _at) = (_burst, _time.GetTimestamp());
        _pausedUntil = _at;
    }

    /// <summary>Takes <paramref name="units"/> and returns how long the taker must wait first.</summary>
    public TimeSpan Take(double units)
    {
        lock (_lock)
        {
            var now = _time.GetTimestamp();
            var pause = _pausedUntil > now ? _time.GetElapsedTime(now, _pausedUntil) : TimeSpan.Zero;
            if (_perSecond == 0)
            {
                return pause;
            }

            _level = Math.Min(_burst, _level + (_time.GetElapsedTime(_at, now).TotalSeconds * _perSecond));
            _at = now;
            _level -= units;
            var wait = _level >= 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(-_level / _perSecond);
            return wait > pause ? wait : pause;
        }
    }

    /// <summary>Gives back what was taken too much, or takes (a negative number) what was taken too little; nobody waits here.</summary>
    public void Return(double units)
    {
        lock (_lock)
        {
            _level += units;
        }
    }

    /// <summary>Nobody goes for so long: the server asked for it.</summary>
    public void Pause(TimeSpan duration)
    {
        lock (_lock)
        {
            _pausedUntil = Math.Max(_pausedUntil, _time.GetTimestamp() + (long)(duration.TotalSeconds * _time.TimestampFrequency));
        }
    }
}
