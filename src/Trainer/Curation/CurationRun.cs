using System.Collections.Concurrent;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// Takes items one after another, works on several at once, and makes each finished one durable before its worker takes the next: after a
/// kill at most the items in flight are worked on again. Memory: the items in flight.
/// </summary>
public static class CurationRun
{
    /// <summary>The reason of an item whose request is too long for the teacher's context.</summary>
    internal const string TooLong = "too long for the teacher";

    /// <summary>Runs until the items or the patience are at their end.</summary>
    /// <typeparam name="TItem">what is worked on</typeparam>
    /// <param name="items">read one at a time, on whichever thread asks</param>
    /// <param name="key">the item's content hash; a key that is done or in flight is passed over</param>
    /// <param name="id">what messages call the item</param>
    /// <param name="work">makes the record; a <see cref="TeacherException"/> fails the item, any other exception stops the run</param>
    /// <param name="journal">where finished items go</param>
    /// <param name="progress">counts</param>
    /// <param name="options">how many at once, how long to wait</param>
    /// <param name="stop">no further item is begun; those in flight may finish within the grace time</param>
    /// <returns>True when every item was met; false when <paramref name="stop"/> ended the run, before the last item or while one was in flight.</returns>
    public static async Task<bool> RunAsync<TItem>(
        IEnumerable<TItem> items, Func<TItem, UInt128> key, Func<TItem, string> id,
        Func<TItem, CancellationToken, Task<CurationOutcome>> work,
        ItemJournal journal, CurationProgress progress, CurationOptions options, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(items);
        ArgumentNullException.ThrowIfNull(journal);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(progress);
        using var abort = new CancellationTokenSource();
        using var grace = stop.Register(() => abort.CancelAfter(TimeSpan.FromSeconds(options.GraceSeconds)));
        using var source = items.GetEnumerator();
        var gate = new Lock();
        Exception? fault = null;
        var (atEnd, cut, failures) = (false, false, 0);
        var tooLong = new ConcurrentQueue<(TItem Item, string Why)>();      // refused before the server had answered anything
        await Task.WhenAll(Enumerable.Range(0, options.Concurrency).Select(_ => Task.Run(WorkAsync, CancellationToken.None)))
            .ConfigureAwait(false);
        await DropAsync(fault is null && progress.Answers > 0).ConfigureAwait(false);
        foreach (var (item, why) in tooLong)
        {
            progress.Failure(id(item), why);
        }

        if (fault is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(fault);
        }

        return atEnd && !cut;

        async Task WorkAsync()
        {
            try
            {
                while (TryTake(out var item))
                {
                    progress.Began();
                    try
                    {
                        var outcome = await work(item, abort.Token).ConfigureAwait(false);
                        await journal.AppendAsync(key(item), outcome.Verdict, outcome.Write).ConfigureAwait(false);
                        progress.Finished(id(item), outcome.Verdict);
                        Interlocked.Exchange(ref failures, 0);
                        await DropAsync(progress.Answers > 0).ConfigureAwait(false);
                    }
                    catch (TeacherException e)
                    {
                        if (stop.IsCancellationRequested)
                        {
                            cut = true;     // it was not tried again
                        }

                        if (e.IsTooLong)
                        {
                            tooLong.Enqueue((item, e.Message));
                            await DropAsync(progress.Answers > 0).ConfigureAwait(false);
                        }
                        else
                        {
                            progress.Failure(id(item), e.Message);
                        }

                        if (!(e.IsRefusal && progress.Answers > 0) && Interlocked.Increment(ref failures) >= options.FailuresInARow)
                        {
                            throw new InvalidInputException(
                                $"{options.FailuresInARow} items in a row got no answer, the last because {e.Message}", e);
                        }
                    }
                    finally
                    {
                        progress.Ended();
                    }
                }
            }
            catch (OperationCanceledException) when (abort.IsCancellationRequested)
            {
                cut = true;     // the grace time is over, or another item stopped the run: this one is asked for again next time
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref fault, e, null);
                await abort.CancelAsync().ConfigureAwait(false);
            }
        }

        // An answer shows that the requests as such fit: what is too long now is so for its own sake, and no later run can change that. Without one
        // the answer's length may be what does not fit, and the items are not given up.
        async Task DropAsync(bool proven)
        {
            while (proven && tooLong.TryDequeue(out var late))
            {
                var verdict = Verdict.Drop(TooLong);
                await journal.AppendAsync(key(late.Item), verdict, json =>
                {
                    json.WriteString("id", id(late.Item));
                    json.WriteString("error", late.Why);
                }).ConfigureAwait(false);
                progress.Finished(id(late.Item), verdict);
            }
        }

        bool TryTake(out TItem item)
        {
            lock (gate)
            {
                while (!atEnd && !stop.IsCancellationRequested && !abort.IsCancellationRequested)
                {
                    if (!source.MoveNext())
                    {
                        atEnd = true;
                        break;
                    }

                    item = source.Current;
                    if (journal.Claim(key(item)))
                    {
                        return true;
                    }
                }

                item = default!;
                return false;
            }
        }
    }
}
