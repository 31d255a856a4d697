namespace Z1Coder.Runtime;

/// <summary>The monitor of a rank that is a thread: it reaches the others directly.</summary>
internal sealed class ThreadMonitor(ThreadJob job, int rank, int size, CollectiveOptions options) : CollectiveMonitor(rank, size, options)
{
    private static readonly Lock s_diagnosis = new();

    public ThreadJob Job => job;

    private protected override string TellOthers(string reason)
    {
        var first = job.FailFirst(reason);
        foreach (var other in job.Monitors)
        {
            if (other != this)
            {
                other.Fail(first);
            }
        }

        return first;
    }

    private protected override void OnTimeout(string sentence)
    {
        lock (s_diagnosis)                              // the first to come diagnoses for all
        {
            if (Failure is not null)
            {
                return;
            }

            foreach (var other in job.Monitors)
            {
                if (other != this)
                {
                    other.Dump($"{sentence}");
                }
            }

            var diagnosis = CollectiveReport.Diagnose([.. job.Monitors.Select(m => m.Report())], Options.Timeout.TotalSeconds);
            Options.Write(diagnosis);
            Abort(diagnosis);
        }
    }

    private protected override void Dispose(bool disposing)
    {
    }
}
