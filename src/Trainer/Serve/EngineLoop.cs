using System.Diagnostics;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>The one thread that steps an engine: it sleeps while there is nothing to do, and an exception of the engine fails every sequence.</summary>
public sealed class EngineLoop : IDisposable
{
    private readonly DecodeEngine _engine;
    private readonly ServeMetrics _metrics;
    private readonly int _most;
    private readonly Thread _thread;
    private readonly AutoResetEvent _work = new(false);
    private readonly TaskCompletionSource<Exception> _failed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _lock = new();
    private readonly HashSet<SequenceGroup> _groups = [];
    private int _sequences;
    private volatile bool _ends;

    /// <summary>Starts the thread.</summary>
    /// <param name="engine">stepped and, at the end, left to the caller to free</param>
    /// <param name="metrics">told of times</param>
    /// <param name="most">sequences accepted and not ended</param>
    public EngineLoop(DecodeEngine engine, ServeMetrics metrics, int most)
    {
        (_engine, _metrics, _most) = (engine, metrics, most);
        _thread = new Thread(Run) { IsBackground = true, Name = "engine" };
        _thread.Start();
    }

    /// <summary>Ends with what the engine threw.</summary>
    public Task<Exception> Failed => _failed.Task;

    /// <summary>Sequences accepted and not ended.</summary>
    public int Sequences => Volatile.Read(ref _sequences);

    /// <summary>Puts every choice of every prompt into the engine's queue.</summary>
    /// <exception cref="ServeException">429 when that would be too many, 500 after the engine failed</exception>
    public SequenceGroup Submit(ServeRequest request)
    {
        var count = request.Prompts.Count * request.Choices;
        var group = new SequenceGroup(count);
        lock (_lock)
        {
            if (_failed.Task.IsCompleted)
            {
                throw EngineFailed();
            }

            if (_sequences + count > _most)
            {
                throw count > _most
                    ? new ServeException(400, $"the request asks for {count} completions; at most {_most} are under way at once", "n")
                    : new ServeException(429, $"{_sequences} sequences are under way or wait, of at most {_most}; try again later", null, "queue_full");
            }

            _sequences += count;
            _groups.Add(group);
        }

        var submitted = 0;
        try
        {
            for (; submitted < count; submitted++)
            {
                var choice = submitted % request.Choices;
                _engine.Submit(new DecodeRequest
                {
                    Prompt = request.Prompts[submitted / request.Choices], Options = request.Options,
                    Sampling = request.Sampling.OfChoice(choice), Cancellation = group.Cancellation,
                    Updated = Watch(group, submitted),
                });
            }
        }
        catch
        {
            group.Cancel();
            End(group, count - submitted);
            throw;
        }
        finally
        {
            _work.Set();
        }

        return group;
    }

    /// <summary>What callers are told when the engine has failed.</summary>
    public static ServeException EngineFailed() => new(500, "the engine failed and the server ends", null, "engine_failed");

    /// <summary>Stops the thread after its step; sequences that are left get no more updates.</summary>
    public void Dispose()
    {
        _ends = true;
        _work.Set();
        _thread.Join();
        _work.Dispose();
    }

    private Action<DecodeUpdate> Watch(SequenceGroup group, int index)
    {
        var (last, tokens) = (Stopwatch.GetTimestamp(), 0);
        return update =>
        {
            if (update.Tokens > tokens)
            {
                var now = Stopwatch.GetTimestamp();
                var seconds = Stopwatch.GetElapsedTime(last, now).TotalSeconds;
                if (tokens == 0)
                {
                    _metrics.FirstToken.Observe(seconds);
                }
                else
                {
                    _metrics.NextToken.Observe(seconds / (update.Tokens - tokens), update.Tokens - tokens);
                }

                (last, tokens) = (now, update.Tokens);
            }

            group.Write(index, update);
            if (update.Completion is not null)
            {
                End(group, 1);
            }
        };
    }

    private void End(SequenceGroup group, int count)
    {
        lock (_lock)
        {
            _sequences -= count;
            if (group.End(count))
            {
                _groups.Remove(group);
            }
        }
    }

    private void Run()
    {
        try
        {
            while (!_ends)
            {
                if (!_engine.Step())
                {
                    _work.WaitOne();
                }
            }
        }
#pragma warning disable CA1031 // whatever it is: requests are told, and the process ends
        catch (Exception e)
#pragma warning restore CA1031
        {
            lock (_lock)
            {
                _failed.TrySetResult(e);
                foreach (var group in _groups)
                {
                    group.Fail(EngineFailed());
                }

                _groups.Clear();
            }
        }
    }
}
