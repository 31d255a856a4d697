using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using Polly;
using Polly.Retry;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>
/// Asks an OpenAI-compatible server. Each try waits for the rate limits and has a time-out of its own; 408, 425, 429, 5xx, time-outs,
/// dropped connections and answers that cannot be read are tried again after an exponential back-off with jitter, or after what
/// Retry-After asks for, which then holds back every other request too. A refused key, a missing model or endpoint and a spent quota stop
/// the run at once (<see cref="InvalidInputException"/>): no other item would do better. Any other failure is the item's own
/// (<see cref="TeacherException"/>), which says when the server refused this very request and when that is for its length.
/// </summary>
public sealed class TeacherClient : IDisposable
{
    private const int LongestAnswerBytes = 64 << 20;
    private const int CharactersPerToken = 3;               // low, so that the estimate of a prompt is high
    private static readonly TimeSpan s_longestRetryAfter = TimeSpan.FromMinutes(10);
    private static readonly string[] s_tooLong = ["maximum context length", "maximum model length"];        // vLLM gives no code

    private readonly TeacherOptions _options;
    private readonly TeacherApi _api;
    private readonly string _model;
    private readonly Uri _endpoint;
    private readonly HttpClient _http;
    private readonly ResiliencePipeline<TeacherAnswer> _pipeline;
    private readonly TokenBucket _requests;
    private readonly TokenBucket _tokens;
    private readonly CancellationToken _stop;
    private long _answers, _retries, _promptTokens, _completionTokens, _written;
    private volatile string? _lastProblem;

    /// <summary>A client with its own pool of connections.</summary>
    /// <param name="options">where and how hard</param>
    /// <param name="api">which endpoint</param>
    /// <param name="model">the model's name on the server</param>
    /// <param name="stop">once cancelled, no failed try is repeated</param>
    public TeacherClient(TeacherOptions options, TeacherApi api, string model, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_options, _api, _model, _endpoint, _stop) = (options, api, model, options.Endpoint(api), stop);
        _http = new HttpClient(new SocketsHttpHandler
        {
            MaxConnectionsPerServer = options.Concurrency,
            PooledConnectionLifetime = TimeSpan.FromMinutes(10),        // so that a change of address is seen in a run of days
            ConnectTimeout = TimeSpan.FromSeconds(Math.Min(30, options.TimeoutSeconds)),
            AutomaticDecompression = DecompressionMethods.All,
            AllowAutoRedirect = false,                                  // a redirected POST becomes a GET: it is better said than done
            UseCookies = false,
        })
        {
            Timeout = Timeout.InfiniteTimeSpan,                         // each try has its own, which covers the body too
            MaxResponseContentBufferSize = LongestAnswerBytes,
        };
        _http.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("z1", null));
        if (options.Key is { Length: > 0 } key)
        {
            _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
        }

        (_requests, _tokens) = (new TokenBucket(options.RequestsPerMinute), new TokenBucket(options.TokensPerMinute));
        _pipeline = Pipeline(options);
    }

    /// <summary>Good answers so far.</summary>
    public long Answers => Interlocked.Read(ref _answers);

    /// <summary>Tries that were repeated.</summary>
    public long Retries => Interlocked.Read(ref _retries);

    /// <summary>Tokens read by the teacher, as it reports them.</summary>
    public long PromptTokens => Interlocked.Read(ref _promptTokens);

    /// <summary>Tokens written by the teacher, as it reports them.</summary>
    public long CompletionTokens => Interlocked.Read(ref _completionTokens);

    /// <summary>What the latest failed try failed of; null before one does.</summary>
    public string? LastProblem => _lastProblem;

    /// <summary>One answer, with all retries.</summary>
    /// <exception cref="TeacherException">This item gets none.</exception>
    /// <exception cref="InvalidInputException">No item can get one.</exception>
    public async Task<TeacherAnswer> AskAsync(IReadOnlyList<ChatMessage> messages, DecodingParameters decoding,
        CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ArgumentNullException.ThrowIfNull(decoding);
        var body = TeacherJson.Request(_api, _model, messages, decoding);
        try
        {
            return await _pipeline.ExecuteAsync(
                static (state, token) => state.Client.TryAsync(state.Body, state.MaxTokens, token),
                (Client: this, Body: body, decoding.MaxTokens), cancellation)
                .ConfigureAwait(false);
        }
        catch (TransientTeacherException e)
        {
            throw new TeacherException(e.Message, e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    private string TimedOut => $"the teacher at {_endpoint} did not answer in {_options.TimeoutSeconds:0.###} s";

    private ResiliencePipeline<TeacherAnswer> Pipeline(TeacherOptions options)
    {
        var builder = new ResiliencePipelineBuilder<TeacherAnswer>();
        if (options.Retries > 0)
        {
            builder.AddRetry(new RetryStrategyOptions<TeacherAnswer>
            {
                ShouldHandle = arguments => ValueTask.FromResult(
                    arguments.Outcome.Exception is TransientTeacherException && !_stop.IsCancellationRequested),
                MaxRetryAttempts = options.Retries,
                BackoffType = DelayBackoffType.Exponential,
                UseJitter = true,
                Delay = TimeSpan.FromSeconds(options.BackOffSeconds),
                MaxDelay = TimeSpan.FromSeconds(options.LongestBackOffSeconds),
                DelayGenerator = arguments => ValueTask.FromResult((arguments.Outcome.Exception as TransientTeacherException)?.RetryAfter),
                OnRetry = arguments =>
                {
                    Interlocked.Increment(ref _retries);
                    _lastProblem = arguments.Outcome.Exception?.Message;
                    return ValueTask.CompletedTask;
                },
            });
        }

        return builder.Build();
    }

    private async ValueTask<TeacherAnswer> TryAsync(byte[] body, int maxTokens, CancellationToken cancellation)
    {
        var mean = Answers == 0 ? maxTokens : (double)Interlocked.Read(ref _written) / Answers;
        var estimate = ((double)body.Length / CharactersPerToken) + mean;
        var (wait, more) = (_requests.Take(1), _tokens.Take(estimate));
        wait = more > wait ? more : wait;
        if (wait > TimeSpan.Zero)
        {
            await Task.Delay(wait, cancellation).ConfigureAwait(false);
        }

        // the time-out begins after the wait for the limits: a slow limit is no slow server
        using var timed = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        timed.CancelAfter(TimeSpan.FromSeconds(_options.TimeoutSeconds));
        try
        {
            var answer = await SendAsync(body, timed.Token).ConfigureAwait(false);
            Interlocked.Increment(ref _answers);
            Interlocked.Add(ref _promptTokens, answer.PromptTokens);
            Interlocked.Add(ref _completionTokens, answer.CompletionTokens);

            // a server that counts nothing is taken at its texts' lengths
            var counted = answer.PromptTokens + answer.CompletionTokens > 0;
            var (read, wrote) = counted ? (answer.PromptTokens, answer.CompletionTokens)
                : (body.Length / CharactersPerToken, answer.Text.Length / CharactersPerToken);
            Interlocked.Add(ref _written, wrote);
            _tokens.Return(estimate - read - wrote);
            return answer;
        }
        catch (OperationCanceledException) when (timed.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            throw new TransientTeacherException(TimedOut);
        }
    }

    private async Task<TeacherAnswer> SendAsync(byte[] body, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, _endpoint) { Content = new ByteArrayContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        byte[] answer;
        HttpStatusCode status;
        TimeSpan? retryAfter;
        try
        {
            using var response = await _http.SendAsync(request, HttpCompletionOption.ResponseContentRead, cancellation)
                .ConfigureAwait(false);
            (status, retryAfter) = (response.StatusCode, RetryAfter(response));
            answer = await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false);
        }
        catch (HttpRequestException e)
        {
            var why = e.InnerException is SocketException or IOException ? e.InnerException.Message : e.Message;
            var first = e.InnerException is SocketException { SocketErrorCode: SocketError.ConnectionRefused or SocketError.HostNotFound };
            if (first && Answers == 0)
            {
                throw new InvalidInputException(
                    $"the teacher at {_endpoint} cannot be reached ({OneLine(why)}); is the server up, and the address right?", e);
            }

            throw new TransientTeacherException($"the connection to {_endpoint} failed ({OneLine(why)})", inner: e);
        }

        if (status != HttpStatusCode.OK)
        {
            throw Refused(status, answer, retryAfter);
        }

        if (TeacherJson.TryRead(_api, answer, out var result, out var error))
        {
            return result;
        }

        var sentence = $"the teacher at {_endpoint} answered {error}";
        throw Answers == 0 && TeacherJson.LooksLikeHtml(answer) ? new InvalidInputException(sentence)
            : new TransientTeacherException(sentence);
    }

    private Exception Refused(HttpStatusCode status, byte[] body, TimeSpan? retryAfter)
    {
        var (message, code) = TeacherJson.Error(body);
        var said = $"({(int)status}: {message})";
        switch (status)
        {
            case HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden:
                return new InvalidInputException(string.IsNullOrEmpty(_options.Key)
                    ? $"the teacher at {_endpoint} asks for a key {said}; put it into the environment variable {_options.KeyVariable}"
                    : $"the teacher at {_endpoint} refused the key in {_options.KeyVariable} {said}; "
                        + "set a valid one and run the same command again");
            case HttpStatusCode.PaymentRequired:
            case HttpStatusCode.TooManyRequests when code == "insufficient_quota":
                return new InvalidInputException(
                    $"the account at {_endpoint} has no credit left {said}; run the same command again when it has");
            case HttpStatusCode.NotFound or HttpStatusCode.MethodNotAllowed:
                return new InvalidInputException(
                    $"{_endpoint} does not serve model '{_model}' {said}; check --teacher (it usually ends in /v1), --model and --api");
            case HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests or (HttpStatusCode)425
                or >= HttpStatusCode.InternalServerError:
                if (retryAfter is { } pause)
                {
                    _requests.Pause(pause);
                }

                return new TransientTeacherException($"the teacher at {_endpoint} is not ready {said}", retryAfter);
            default:
                var own = status is HttpStatusCode.BadRequest or HttpStatusCode.RequestEntityTooLarge or HttpStatusCode.UnprocessableEntity;
                return new TeacherException($"the teacher at {_endpoint} refused the request {said}")
                {
                    IsRefusal = own,
                    IsTooLong = own && (code == "context_length_exceeded" || s_tooLong.Any(words => message.Contains(words, StringComparison.OrdinalIgnoreCase))),
                };
        }
    }

    private static TimeSpan? RetryAfter(HttpResponseMessage response)
    {
        var header = response.Headers.RetryAfter;
        var wait = header?.Delta ?? (header?.Date is { } date ? date - DateTimeOffset.UtcNow : null);
        return wait is null || wait <= TimeSpan.Zero ? null : wait > s_longestRetryAfter ? s_longestRetryAfter : wait;
    }

    private static string OneLine(string text) =>
        string.Join(' ', text.TrimEnd('.').Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
}
