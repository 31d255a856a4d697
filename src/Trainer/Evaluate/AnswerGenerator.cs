using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>Has an engine answer.</summary>
internal static class AnswerGenerator
{
    private const int Backlog = 256;                    // requests that wait in the engine: more would only be looked through at every step

    /// <summary>Submits the requests in order and steps the engine until all have ended.</summary>
    /// <param name="engine">Empty, and stepped by nobody else.</param>
    /// <param name="requests">What is wanted; samples of one task stand together, so that an engine can share their prompt.</param>
    /// <param name="options">How to decode.</param>
    /// <param name="endTokens">Ids that end an answer.</param>
    /// <param name="finished">Told of each answer on this thread as it ends; must neither block nor throw.</param>
    /// <param name="stop">Ends it by throwing OperationCanceledException; the engine then still holds what was under way.</param>
    internal static void Run(
        DecodeEngine engine, IReadOnlyList<AnswerRequest> requests, AnswerOptions options, IReadOnlyList<int> endTokens,
        Action<AnswerRequest, Answer> finished, CancellationToken stop)
    {
        var ends = new GenerateOptions(options.MaxNewTokens, endTokens, options.Stops);
        var next = 0;
        do
        {
            for (; next < requests.Count && engine.Stats.Waiting < Backlog; next++)
            {
                Submit(requests[next]);
            }

            stop.ThrowIfCancellationRequested();
        }
        while (engine.Step() || next < requests.Count);
        stop.ThrowIfCancellationRequested();

        void Submit(AnswerRequest request)
        {
            if (request.Prompt.Length >= engine.Capacity)
            {
                finished(request, new Answer(request.Task.TaskId, request.Sample, "", Answer.PromptTooLong, 0));
                return;
            }

            engine.Submit(new DecodeRequest
            {
                Prompt = request.Prompt,
                Options = ends,
                Sampling = options.SamplingOf(request.Task.TaskId, request.Sample),
                Cancellation = stop,
                Updated = update =>
                {
                    if (update.Completion is { Finish: not FinishReason.Cancelled } completion)
                    {
                        finished(request, Answer.Of(request, completion));
                    }
                },
            });
        }
    }
}
